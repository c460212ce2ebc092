"""The shuffle trellis: its code, its bytes, its search, and the same integers on every path."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from budget import few
from hypothesis import given
from hypothesis import strategies as st
from numba.core import types
from numba.core.caching import NullCache

from lrc.testing.tolerance import sum_bound
from lrc_kernels import shuffle_code
from lrc_kernels._jit import njit
from lrc_kernels.cpu.codes.shuffle import decode_rows_shuffle
from lrc_kernels.cpu.dot import dot_shuffle, matvec_i8
from lrc_kernels.cpu.dot.weight_panels import matmul_shuffle
from lrc_kernels.cpu.encode.rings import encode_shuffle
from lrc_kernels.shuffle_code import CODES, TILE, tile_rows
from lrc_kernels.simd import paths as simd_paths
from lrc_kernels.trellis_code import tiles_to_rows

KEYS = list(CODES)
every_code = pytest.mark.parametrize("key", KEYS, ids=str)
#: Rows whose tiles have each height, and columns that end within a group, a ring, or eight.
SHAPES = [(96, 70), (192, 65), (384, 129), (512, 100)]
shapes = {
    "m": st.sampled_from([32, 96, 64, 192, 128, 384, 256, 512]),
    "n": st.integers(1, 300),
    "seed": st.integers(3, 2**32),
}
Array = np.ndarray[Any, np.dtype[Any]]


def case(m: int, n: int, key: tuple[int, int], seed: int) -> tuple[Array, int, Array]:
    """Random bytes, the height of tiles, and the matrix that they stand for."""
    rng, rows = np.random.default_rng(seed), tile_rows(m)
    data = rng.integers(0, 256, (m // rows, shuffle_code.plane_bytes(n, key[0], rows)), np.uint8)
    rings = -(-n * rows // TILE)
    states = shuffle_code.unpack_states(data, *key, rows, rings)
    return data, rows, tiles_to_rows(shuffle_code.ring_values(states, *key), rows)[:, :n]


def rounded(x: Array) -> Array:
    """The vector that the kernels really multiply with, float64."""
    q, s = x.values()
    return q * np.repeat(s.astype(np.float64), 64)[: x.n]


@every_code
def test_tables_of_nibbles_give_the_values(key: tuple[int, int]) -> None:
    code, levels = CODES[key], shuffle_code.state_levels(*key)
    tables = code.nibble_tables()
    for phase in range(code.period):
        window = np.arange(1 << code.state_bits) << (code.bits * phase % 4)
        index = np.zeros(len(window), np.int64)
        for nibble, table in enumerate(tables[phase]):
            index ^= table[(window >> (4 * nibble)) & 15]
        np.testing.assert_array_equal(code.levels()[index], levels[phase])


@every_code
def test_values_are_nearly_gaussian(key: tuple[int, int]) -> None:
    levels = shuffle_code.state_levels(*key) / CODES[key].scale
    assert abs(levels.mean()) < 0.02
    assert 1.0 < (levels**2).mean() ** 0.5 < 1.1
    assert np.abs(shuffle_code.state_levels(*key).astype(int)).max() <= 63


@every_code
@few(6)
@given(**shapes)
def test_states_are_packed_and_unpacked(key: tuple[int, int], m: int, n: int, seed: int) -> None:
    rows = tile_rows(m)
    low = np.random.default_rng(seed).integers(
        0, 1 << key[0], (m // rows, -(-n * rows // TILE), TILE)
    )
    data = shuffle_code.pack_states(low.astype(np.uint16), key[0], rows)
    assert data.shape == (m // rows, shuffle_code.plane_bytes(n, key[0], rows))
    states = shuffle_code.unpack_states(data, *key, rows, low.shape[1])
    np.testing.assert_array_equal(states & ((1 << key[0]) - 1), low)
    # A state is the bits of its own weight and of those behind it, around the ring.
    own, k = states.astype(np.int64), key[0]
    np.testing.assert_array_equal(own >> k, np.roll(own, -1, axis=2) & ((1 << key[1] - k) - 1))


@every_code
@few(4)
@given(**shapes)
def test_rows_are_decoded(key: tuple[int, int], m: int, n: int, seed: int) -> None:
    data, rows, W = case(m, n, key, seed)
    scales = np.random.default_rng(seed).uniform(0.5, 2, m).astype(np.float32)
    out = np.empty((m, n), np.float32)
    decode_rows_shuffle(data, *key, np.ones(1, np.float32), out, rows)
    np.testing.assert_array_equal(out, W)
    decode_rows_shuffle(data, *key, scales, out, rows)
    np.testing.assert_allclose(out, W * scales[:, None], rtol=3e-7)


@every_code
@pytest.mark.parametrize("alone", [False, True])
@few(6)
@given(**shapes)
def test_products(key: tuple[int, int], alone: bool, m: int, n: int, seed: int) -> None:
    data, rows, W = case(m, n, key, seed)
    x = matvec_i8.quantize(np.random.default_rng(seed).standard_normal(n).astype(np.float32), alone)
    found = matvec_i8.matvec_shuffle(data, *key, rows, x)
    bound = 8 * sum_bound(n + 8, np.float32, 2.0 * (float(np.abs(rounded(x)).sum()) + 1e-30))
    assert np.abs(found - W.astype(np.float64) @ rounded(x)).max() <= bound


@every_code
@few(4)
@given(tokens=st.integers(1, 7), **shapes)
def test_products_with_many_tokens(
    key: tuple[int, int], tokens: int, m: int, n: int, seed: int
) -> None:
    data, rows, W = case(m, n, key, seed)
    x = np.random.default_rng(seed).standard_normal((tokens, n)).astype(np.float32)
    found = matmul_shuffle(data, *key, rows, x)
    for token, mine in zip(x, found, strict=True):
        own = rounded(matvec_i8.quantize(token))
        bound = sum_bound(n + 8, np.float32, 4.0 * (float(np.abs(own).sum()) + 1e-30))
        assert np.abs(mine - W.astype(np.float64) @ own).max() <= bound


def test_what_does_not_fit_is_refused() -> None:
    x = matvec_i8.quantize(np.ones(64, np.float32))
    for data, bits, state_bits, rows in (
        (np.zeros((1, 1024), np.uint8), 2, 11, 256), (np.zeros((1, 1024), np.uint8), 2, 10, 16),
        (np.zeros((1, 1000), np.uint8), 2, 10, 256), (np.zeros((1, 1024), np.int8), 2, 10, 256),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"bits|columns"):
            matvec_i8.matvec_shuffle(data, bits, state_bits, rows, x)


#: Mean squared error on a Gaussian source of unit variance, at the best scale: at most.
MOST = {(2, 10): 0.0723, (2, 12): 0.0712, (3, 12): 0.0190, (4, 12): 0.0050}


@every_code
def test_the_search_finds_paths_whose_error_is_that_of_the_code(key: tuple[int, int]) -> None:
    Z = np.random.default_rng(5).standard_normal((160, TILE)).astype(np.float32)
    # Finer codes are best when their values are spread a little less.
    scale = np.float32(CODES[key].scale / shuffle_code.UNIT * {2: 1.0, 3: 0.96, 4: 0.95}[key[0]])
    states = encode_shuffle(Z * scale, *key)
    values = shuffle_code.ring_values(states, *key) / scale
    assert np.square(values - Z).mean() / Z.var() < MOST[key]
    # What is stored is what was found: neighbours agree on the bits that they share.
    data = shuffle_code.pack_states(states[None], key[0], 256)
    found = shuffle_code.unpack_states(data, *key, 256, len(Z))[0]
    np.testing.assert_array_equal(found, states)


@every_code
def test_no_single_change_of_a_ring_is_nearer(key: tuple[int, int]) -> None:
    """Other bits of one weight change the states around it: none of these rings is better."""
    Z = np.random.default_rng(6).standard_normal(TILE).astype(np.float32)
    bits, state_bits = key
    states = encode_shuffle(Z[None], *key)
    low = (states[0] & ((1 << bits) - 1)).astype(np.int64)
    changed = np.repeat(low[None], 3 * 64, axis=0)
    for i in range(len(changed)):
        changed[i, 7 + 3 * (i // 3)] ^= 1 + i % 3
    shifts = bits * np.arange(-(-state_bits // bits))
    wide = sum(np.roll(changed, -j, axis=1) << s for j, s in enumerate(shifts))
    others = (wide & ((1 << state_bits) - 1)).astype(np.uint16)
    mine = np.square(shuffle_code.ring_values(states, *key)[0] - Z).sum()
    theirs = np.square(shuffle_code.ring_values(others, *key) - Z).sum(axis=1)
    assert mine <= theirs.min() + 1e-2


def all_products() -> Array:
    """Results of fixed cases, for comparing paths."""
    found = []
    for m, n in SHAPES:
        for key in KEYS:
            data, rows, _ = case(m, n, key, m + n)
            x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
            for alone in (False, True):
                own = matvec_i8.quantize(x, alone)
                found.append(matvec_i8.matvec_shuffle(data, *key, rows, own))
    return np.concatenate(found)


_CHILD = """
import sys
import numpy as np
sys.path[:0] = sys.argv[2].split(":")
import test_shuffle
from lrc_kernels.simd import paths as simd_paths
assert simd_paths.path() == sys.argv[3]
np.save(sys.argv[1], test_shuffle.all_products())
"""
#: Processors that have what a path needs and little more.
PROCESSORS = {"avxvnni": "alderlake", "avx2": "haswell", "generic": "generic"}


@pytest.mark.parametrize("path", [p for p in simd_paths.PATHS if p != simd_paths.path()])
def test_every_path_gives_the_same_bits(path: str, tmp_path: Any) -> None:
    if path not in simd_paths.available_paths():
        pytest.skip(f"this machine has no {path}")
    out = tmp_path / "products.npy"
    environment = os.environ | {simd_paths.SWITCH: path}
    if platform.machine() == "x86_64" and path in PROCESSORS:
        # Another instruction than the path's own would end the child.
        environment |= {"NUMBA_CPU_NAME": PROCESSORS[path], "NUMBA_CPU_FEATURES": ""}
    folder = os.path.dirname(os.path.abspath(__file__))
    folders = f"{folder}:{os.path.dirname(folder)}"
    subprocess.run(
        [sys.executable, "-c", _CHILD, str(out), folders, path],
        check=True, env=environment,
    )  # fmt: skip
    np.testing.assert_array_equal(np.load(out), all_products())


@pytest.mark.parametrize(("bits", "state_bits"), [(2, 12), (4, 12)])
def test_every_line_of_codes_is_asked_for_ahead(bits: int, state_bits: int) -> None:
    """Of a step of 64 bytes a bit; nothing but speed tells it from one line of them."""
    if simd_paths.path() == "generic":
        pytest.skip("this path asks for nothing ahead")
    kernel = njit()(dot_shuffle._make(bits, state_bits, True).py_func)
    kernel._cache = NullCache()  # What comes from a cache has no text.
    kinds = {"last": types.boolean, "scale": types.float32}
    names = kernel.py_func.__code__.co_varnames[: kernel.py_func.__code__.co_argcount]
    kernel.compile(tuple(kinds.get(name, types.int64) for name in names))
    (text,) = kernel.inspect_llvm().values()
    body = text[: text.index("\n}")]
    assert len(re.findall(r"call void @llvm\.prefetch", body)) >= bits
