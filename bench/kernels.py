"""Packed matrix times vector against float32 BLAS, and against what the machine can do at all.

    python bench/kernels.py [--seconds 2] [--out bench/results/kernels.jsonl]

Everything runs on one thread, whose processor time is what counts. A and B are timed in turn, and
the ratio's median is the figure: on a shared machine the times themselves wander. Roofs, measured
in the same run: reading a matrix that no cache holds, in the widest loads, and int8 dot products on
data in L1.

Another path, compiled as for a processor that has no better one:

    LRC_SIMD=avx2 NUMBA_CPU_NAME=haswell NUMBA_CPU_FEATURES= python bench/kernels.py

(``avxvnni`` and ``alderlake``, ``generic`` and ``x86-64``.)
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable

import harness  # first: it pins the threads
import numpy as np

from lrc_kernels import shuffle_code
from lrc_kernels.backend import get_kernels
from lrc_kernels.cpu.dot import matvec_i8
from lrc_kernels.cpu.dot.dot_peak import PRODUCTS, dot_loop, read_loop
from lrc_kernels.simd.paths import path
from lrc_kernels.trellis_code import tile_rows, tiles_to_rows

SHAPES = ((4096, 4096), (11008, 4096))
#: Ratios to float32 that this project promises.
PROMISED = {"e8p 2": 3.3, "e8p 4": 1.8, "uniform 4": 2.5, "uniform 8": 2.5, "trellis12 2": 1.7}
#: The same where bytes are multiplied without an instruction for it.
PROMISED_AVX2 = {
    **{"uniform 4": 2.5, "uniform 8": 2.0},
    **{"shuffle12 2": 1.9, "shuffle12 3": 1.6, "shuffle12 4": 1.7},
}


def kernels(m: int, n: int, x: np.ndarray) -> dict[str, tuple[float, Callable[[], np.ndarray]]]:
    """Name, bytes a call reads, and the call, for every kind of matrix."""
    rng = np.random.default_rng(6143)
    act, seven = matvec_i8.quantize(x), matvec_i8.quantize(x, alone=True)
    out = np.empty(m, np.float32)
    codes, second = (rng.integers(0, 1 << 16, (m, n // 8), dtype=np.uint16) for _ in "ab")
    coarse = second.astype(np.uint8)
    found: dict[str, tuple[float, Callable[[], np.ndarray]]] = {
        "e8p 2": (codes.nbytes, lambda: matvec_i8.matvec_lattice(codes, act, out=out)),
        "e8p 3": (
            codes.nbytes + coarse.nbytes,
            lambda: matvec_i8.matvec_lattice(codes, act, coarse, 2.04, out=out),
        ),
        "e8p 4": (
            2 * codes.nbytes,
            lambda: matvec_i8.matvec_lattice(codes, act, second, 3.75, out=out),
        ),
    }
    for bits in (2, 3, 4, 8):
        words = rng.integers(0, 256, (m, n * bits // 8), dtype=np.uint8)
        scales = rng.uniform(0.5, 1, (m, n // 64)).astype(np.float16)

        def call(bits=bits, words=words, scales=scales):
            return matvec_i8.matvec_uniform(words, bits, scales, 64, act, out=out)

        found[f"uniform {bits}"] = words.nbytes + scales.nbytes, call
    table = np.sort(rng.integers(0, 255, 16, dtype=np.uint8))
    for bits in (2, 3, 4):
        words = rng.integers(0, 256, (m, n * bits // 8), dtype=np.uint8)

        def by_table(bits=bits, words=words):
            return matvec_i8.matvec_levels(words, bits, table, act, out=out)

        found[f"lloyd-max {bits}"] = words.nbytes, by_table
    rows = tile_rows(m)
    for bits in (2, 3, 4):
        tiles = rng.integers(0, 1 << 16, (m // rows, n * rows // 16 * bits), dtype=np.uint16)

        def product(bits=bits, tiles=tiles):
            return matvec_i8.matvec_trellis(tiles, bits, 12, rows, act, out=out)

        found[f"trellis12 {bits}"] = tiles.nbytes, product
    for bits, state_bits in shuffle_code.CODES:
        band = shuffle_code.tile_rows(m)
        size = shuffle_code.plane_bytes(n, bits, band)
        data = rng.integers(0, 256, (m // band, size), dtype=np.uint8)

        # Activations of 15 bits, and of 7, which the engine takes where they are precise enough.
        for name, own in (("", act), (" seven", seven)):

            def looked_up(bits=bits, state_bits=state_bits, data=data, band=band, own=own):
                return matvec_i8.matvec_shuffle(data, bits, state_bits, band, own, out=out)

            found[f"shuffle{state_bits} {bits}{name}"] = data.nbytes, looked_up
    return found


def check(m: int, n: int) -> None:
    """Compare with the plain NumPy kernels on a few rows before anything is timed."""
    x = np.random.default_rng(9973).standard_normal(n).astype(np.float32)
    plain = get_kernels("reference")
    codes = np.random.default_rng(12).integers(0, 1 << 16, (8, n // 8), dtype=np.uint16)
    fast = matvec_i8.matvec_lattice(codes, matvec_i8.quantize(x))
    np.testing.assert_allclose(fast, plain.matvec_e8p(codes, x), atol=1e-3 * np.sqrt(n))
    tiles = codes.reshape(1, -1).repeat(2, axis=1)
    fast = matvec_i8.matvec_trellis(tiles, 2, 12, 16, matvec_i8.quantize(x))
    expected = plain.matvec_trellis(tiles, 2, 12, 16, x)
    np.testing.assert_allclose(fast, expected, atol=1e-3 * np.sqrt(n))
    for bits, state_bits in shuffle_code.CODES:
        size = shuffle_code.plane_bytes(n, bits, 256)
        data = np.random.default_rng(13).integers(0, 256, (1, size), dtype=np.uint8)
        states = shuffle_code.unpack_states(data, bits, state_bits, 256, n)
        W = tiles_to_rows(shuffle_code.ring_values(states, bits, state_bits), 256)
        fast = matvec_i8.matvec_shuffle(data, bits, state_bits, 256, matvec_i8.quantize(x))
        np.testing.assert_allclose(fast, W @ x, atol=1e-3 * np.sqrt(n))


def in_turn(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    """Times of every call, one after another, over and over."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    deadline = time.perf_counter() + seconds * len(calls)
    while len(times[next(iter(times))]) < 5 or time.perf_counter() < deadline:
        for name, call in calls.items():
            start = time.thread_time()
            call()
            times[name].append(time.thread_time() - start)
    return times


def run(seconds: float) -> list[dict[str, object]]:
    """One record a kernel and shape."""
    records: list[dict[str, object]] = []
    big = np.ones(1 << 25, np.uint64)
    for m, n in SHAPES:
        check(m, n)
        x = np.random.default_rng(77).standard_normal(n).astype(np.float32)
        dense = np.random.default_rng(78).standard_normal((m, n), dtype=np.float32)
        packed = kernels(m, n, x)
        calls: dict[str, Callable[[], object]] = {
            "float32": lambda dense=dense, x=x: dense @ x,
            "read": lambda: read_loop(big),
            "dot": lambda: dot_loop(100_000),
            **{name: call for name, (_, call) in packed.items()},
        }
        for call in calls.values():
            call()
        times = in_turn(calls, seconds)
        read = big.nbytes / statistics.median(times["read"])
        dots = 100_000 * PRODUCTS * 64 / statistics.median(times["dot"])
        for name, (size, _) in packed.items():
            ratios = [a / b for a, b in zip(times["float32"], times[name], strict=True)]
            low, ratio, high = statistics.quantiles(ratios, n=4)
            taken = statistics.median(times[name])
            records.append(
                {
                    "case": f"matvec {name} bits",
                    "shape": [m, n],
                    "path": path(),
                    "weights_per_second": m * n / taken,
                    "over_float32": ratio,
                    "over_float32_quartiles": [low, high],
                    "promised": (PROMISED_AVX2 if path() == "avx2" else PROMISED).get(name),
                    "share_of_dram_roof": size / taken / read,
                    "share_of_dot_roof": 2 * m * n / taken / dots,
                    "dram_bytes_per_second": read,
                    "repeats": len(ratios),
                }
            )
    return records


if __name__ == "__main__":
    given = harness.options(__doc__)
    lines = [json.dumps(record) for record in (harness.environment(), *run(given.seconds))]
    if given.out is None:
        print("\n".join(lines))
    else:
        given.out.parent.mkdir(parents=True, exist_ok=True)
        with given.out.open("a", encoding="utf-8") as stream:
            stream.write("\n".join(lines) + "\n")
