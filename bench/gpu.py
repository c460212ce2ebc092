"""What a CUDA device adds: the trellis search, LDLQ with polish, and a whole decomposition.

``python bench/gpu.py [--size 4096] [--threads N]``. Kernels are compiled before they are timed. The
CPU's search is that of one core, its decomposition on all threads that are asked for.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import lrc
from lrc.base.threads import resolve_threads, single_threaded_blas
from lrc.linalg.factor import factor, feedback_matrix
from lrc.quant import get_quantizer
from lrc.quant.ldlq import Grid, ldlq, polish
from lrc.spec import DecomposeSpec, LowRankSpec, QuantSpec
from lrc_kernels.cpu.encode.rings import encode_shuffle
from lrc_kernels.cpu.encode.viterbi import encode_trellis
from lrc_kernels.gpu.device import device_name
from lrc_kernels.gpu.rings import encode_rings
from lrc_kernels.trellis_fixed import RingCode, hashed_code, shuffled_code

CODES: dict[str, tuple[RingCode, Callable[..., Any]]] = {
    "trellis10 2 bits": (hashed_code(2, 10), encode_trellis),
    "trellis12 2 bits": (hashed_code(2, 12), encode_trellis),
    "trellis12 4 bits": (hashed_code(4, 12), encode_trellis),
    "shuffle12 3 bits": (shuffled_code(3, 12), encode_shuffle),
    "trellis16 2 bits": (hashed_code(2, 16), encode_trellis),
}


def seconds(work: Callable[[], object], rounds: int = 3) -> float:
    """Least time of some rounds, after one that is not counted."""
    work()
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return min(taken)


def search(rings: int) -> None:
    """Weights a second, with their transfer both ways."""
    Z = np.random.default_rng(1).standard_normal((rings, 256), dtype=np.float32)
    for name, (code, on_cpu) in CODES.items():
        few = Z[: 256 if code.state_bits < 16 else 16]
        there = rings if code.state_bits < 16 else rings // 16
        device = there * 256 / seconds(lambda c=code, t=there: encode_rings(Z[:t], c)) / 1e6
        cpu = (
            few.size / seconds(lambda c=code, w=on_cpu, z=few: w(z, c.bits, c.state_bits), 1) / 1e6
        )
        ratio = f"x{device / cpu:.0f}"
        print(f"search {name}: {device:.1f} M weights/s, one core {cpu:.2f}, {ratio}", flush=True)


def problem(n: int) -> tuple[Any, Any]:
    """A matrix and a second moment (n, n)."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((2 * n, n), dtype=np.float32) * np.exp(
        0.5 * rng.standard_normal(n, dtype=np.float32)
    )
    return rng.standard_normal((n, n), dtype=np.float32), (X.T @ X / len(X)).astype(np.float64)


def rounding(W: Any, H: Any, threads: int) -> None:
    """LDLQ and polish of a matrix."""
    grid = Grid(get_quantizer(QuantSpec("trellis12", 2), len(W)), np.full((1, 1), 0.9, np.float32))
    with single_threaded_blas():
        U = feedback_matrix(factor(H).cholesky, 1)
    H = H.astype(np.float32)
    for device in ("cuda", "cuda", "cpu"):
        began = time.perf_counter()
        rounded = ldlq(W, U, grid, threads=threads, device=device)
        middle = time.perf_counter()
        polish(W, rounded, H, grid, 2, threads=threads, device=device)
        end = time.perf_counter()
        print(
            f"{device} {W.shape}: LDLQ {middle - began:.2f} s, 2 sweeps {end - middle:.2f} s",
            flush=True,
        )


def whole(W: Any, H: Any, threads: int) -> None:
    """``lrc.decompose`` with the defaults, and without the choice of a rank."""
    for rank in ("auto", 0):
        spec = DecomposeSpec(low_rank=LowRankSpec(rank=rank))
        for device in ("cuda", "cpu"):
            own = dataclasses.replace(spec, device=device)
            began = time.perf_counter()
            found = lrc.decompose(W, H, own, threads=threads)
            taken = time.perf_counter() - began
            print(
                f"decompose {W.shape} rank {rank} {device}: {taken:.2f} s, "
                f"error {found.relative_error:.5f}, rank {found.rank}",
                flush=True,
            )


def main() -> None:
    """Run all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--rings", type=int, default=16384)
    parser.add_argument("--threads", type=int)
    args = parser.parse_args()
    threads = resolve_threads(args.threads)
    print(f"{device_name()}; {threads} threads; least of the rounds", flush=True)
    search(args.rings)
    W, H = problem(args.size)
    rounding(W, H, threads)
    whole(W, H, threads)


if __name__ == "__main__":
    main()
