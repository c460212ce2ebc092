"""Trellis weights times many tokens, and attention on lanes: the same numbers on every path."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc.nn.attention import attention
from lrc.testing.tolerance import assert_within, factor_bound, relative_difference, sum_bound
from lrc_kernels import shuffle_code
from lrc_kernels.cpu.codes.trellis import decode_trellis
from lrc_kernels.cpu.dot import matvec_i8
from lrc_kernels.cpu.dot.weight_panels import matmul_shuffle, matmul_trellis
from lrc_kernels.cpu.engine.lanes_attention import attend_lanes
from lrc_kernels.simd import paths as simd_paths
from lrc_kernels.simd.lanes import LANES
from lrc_kernels.trellis_code import TILE, tile_rows

#: Rows whose tiles have 1, 2, 4, 8 and 16 blocks, and panels that are not full.
ROWS = (16, 48, 80, 96, 160, 64, 192, 128, 384, 256, 512)
CODES = ((2, 8), (3, 12), (4, 16), (2, 16), (3, 16))
SHAPES = [(16, 1, 1), (48, 70, 3), (96, 63, 7), (192, 65, 13), (128, 256, 6), (512, 300, 14)]


def trellis_case(m, n, tokens, bits, seed):
    rng = np.random.default_rng(seed)
    rows = tile_rows(m)
    words = rng.integers(0, 65536, (m // rows, -(-n * rows // TILE) * 16 * bits))
    return words.astype(np.uint16), rows, rng.standard_normal((tokens, n)).astype(np.float32)


def rounded(x):
    """The vector that the kernels really multiply with, float64."""
    q, s = matvec_i8.quantize(x).values()
    return q * np.repeat(s.astype(np.float64), 64)[: len(x)]


@pytest.mark.parametrize(("bits", "state_bits"), CODES, ids=str)
@given(
    m=st.sampled_from(ROWS),
    n=st.integers(1, 600),
    tokens=st.integers(1, 14),
    seed=st.integers(3, 2**32),
)
def test_products(bits, state_bits, m, n, tokens, seed):
    words, rows, x = trellis_case(m, n, tokens, bits, seed)
    W = decode_trellis(words, bits, state_bits, rows, n).astype(np.float64)
    found = matmul_trellis(words, bits, state_bits, rows, x)
    assert found.dtype == np.float32
    expected = np.stack([W @ rounded(row) for row in x])
    for i, row in enumerate(x):
        bound = sum_bound(n + 8, np.float32, 4.0 * (float(np.abs(row).sum()) + 1e-30))
        assert np.abs(found[i] - expected[i]).max() <= bound


def test_tokens_are_multiplied_by_themselves():
    words, rows, x = trellis_case(192, 577, 23, 2, 19)
    whole = matmul_trellis(words, 2, 12, rows, x)
    parts = [matmul_trellis(words, 2, 12, rows, x[a:b]) for a, b in ((0, 1), (1, 8), (8, 23))]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_largest_sums_are_exact():
    words = np.full((1, 4 * 32), 65535, np.uint16)
    value = decode_trellis(words, 2, 16, 64, 16)
    for sign in (1, -1):
        found = matmul_trellis(words, 2, 16, 64, np.full((2, 16), sign * 3.0, np.float32))
        expected = sign * 3 * value.sum(axis=1, dtype=np.float64)
        np.testing.assert_allclose(found, [expected] * 2, rtol=1e-6)


def test_zero_tokens_and_zero_inputs():
    words, rows, x = trellis_case(32, 40, 4, 2, 6)
    assert matmul_trellis(words, 2, 12, rows, x[:0]).shape == (0, 32)
    np.testing.assert_array_equal(matmul_trellis(words, 2, 12, rows, 0 * x), np.zeros((4, 32)))


def test_wrong_shapes_are_refused():
    words, rows, _ = trellis_case(32, 40, 4, 2, 6)
    with pytest.raises(ValueError, match="41 columns"):
        matmul_trellis(words, 2, 12, rows, np.zeros((4, 41), np.float32))


def test_nothing_is_read_past_the_end(tmp_path):
    """Codes at the very end of a mapped page: reading one byte more would end the process."""
    for m, n, tokens in SHAPES:
        words, rows, x = trellis_case(m, n, tokens, 3, 5)
        size = -(-words.nbytes // 65536) * 65536
        raw = np.memmap(tmp_path / f"{m}", np.uint8, "w+", shape=(size,))
        raw[size - words.nbytes :] = words.reshape(-1).view(np.uint8)
        mapped = raw[size - words.nbytes :].view(np.uint16).reshape(words.shape)
        found = matmul_trellis(mapped, 3, 12, rows, x)
        np.testing.assert_array_equal(found, matmul_trellis(words, 3, 12, rows, x))


def attention_case(heads, queries, before, dim, seed):
    rng = np.random.default_rng(seed)
    q = rng.standard_normal((queries, heads, dim)).astype(np.float32)
    k, v = rng.standard_normal((2, before + queries, dim)).astype(np.float32)
    return 3 * q, k, v


def attend(q, k, v, window=0, cap=0.0, slopes=(0.0, 0.0, 0.0)):
    queries, heads, dim = q.shape
    out = np.empty_like(q)
    work = np.empty((len(k) + dim + 1) * LANES, np.float32)
    for h in range(heads):
        attend_lanes(
            q[:, h].ctypes.data, q.strides[0], queries, k.ctypes.data, v.ctypes.data,
            len(k) - queries, dim, np.float32(dim**-0.5), np.float32(cap),
            np.float32(slopes[h]), window, work.ctypes.data, out[:, h].ctypes.data, out.strides[0],
        )  # fmt: skip
    return out


@given(
    queries=st.integers(1, LANES),
    before=st.integers(0, 70),
    dim=st.sampled_from([4, 12, 16, 64, 100]),
    window=st.sampled_from([0, 0, 1, 2, 17, 32, 33, 64, 120]),
    cap=st.sampled_from([0.0, 0.0, 1.5, 30.0]),
    slopes=st.sampled_from([None, (0.5, 0.125, 0.25)]),
    seed=st.integers(3, 2**32),
)
def test_attention(queries, before, dim, window, cap, slopes, seed):
    q, k, v = attention_case(3, queries, before, dim, seed)
    lean = None if slopes is None else np.array(slopes, np.float32)
    keys, values = k[None, None], v[None, None]
    expected = attention(q[None], keys, values, window, cap=cap, slopes=lean)[0]
    found = attend(q, k, v, window, cap, slopes or (0.0,) * 3).reshape(queries, -1)
    bound = factor_bound(dim + before + queries, np.float32)
    assert_within(relative_difference(found, expected), bound)


def all_products():
    """Results of fixed cases, for comparing paths."""
    found = []
    for m, n, tokens in SHAPES:
        for bits, state_bits in CODES:
            words, rows, x = trellis_case(m, n, tokens, bits, m + n)
            found.append(matmul_trellis(words, bits, state_bits, rows, x).reshape(-1))
    for m, n, tokens in ((96, 63, 7), (192, 70, 5), (384, 65, 3), (512, 300, 14)):
        for bits, state_bits in shuffle_code.CODES:
            rows = shuffle_code.tile_rows(m)
            rng = np.random.default_rng(m + n)
            size = (m // rows, shuffle_code.plane_bytes(n, bits, rows))
            data = rng.integers(0, 256, size, np.uint8)
            x = rng.standard_normal((tokens, n)).astype(np.float32)
            found.append(matmul_shuffle(data, bits, state_bits, rows, x).reshape(-1))
    for queries, before, dim, window in ((1, 0, 4, 0), (32, 5, 64, 9), (17, 40, 12, 0)):
        for cap in (0.0, 2.0):
            case = attention_case(2, queries, before, dim, 8)
            found.append(attend(*case, window, cap).reshape(-1))
    return np.concatenate(found)


_CHILD = """
import re
import sys
import numpy as np
sys.path.insert(0, sys.argv[2])
import test_weight_panels
from lrc_kernels.simd import paths as simd_paths
from lrc_kernels.cpu.dot.weight_panels import multiply_weight_panel
assert simd_paths.path() == sys.argv[3]
np.save(sys.argv[1], test_weight_panels.all_products())
for code in multiply_weight_panel.kernel(0, 2, 12, 16).inspect_llvm().values():
    print(*re.findall(r"llvm\\.x86[\\w.]*", code))
"""
#: Processors that have what a path needs and little more, and its product of pairs.
PROCESSORS = {"avxvnni": "alderlake", "avx2": "haswell", "generic": "generic"}
PRODUCTS = {
    "avx512vnni": "llvm.x86.avx512.vpdpwssd.512",
    "avxvnni": "llvm.x86.avx512.vpdpwssd.256",
    "avx2": "llvm.x86.avx2.pmadd.wd",
}


@pytest.mark.parametrize("path", simd_paths.PATHS)
def test_every_path_gives_the_same_bits(path, tmp_path):
    if path not in simd_paths.available_paths():
        pytest.skip(f"this machine has no {path}")
    out = tmp_path / "products.npy"
    folder = os.path.dirname(os.path.abspath(__file__))
    forced = {simd_paths.SWITCH: path}
    if path in PROCESSORS and platform.machine() in ("x86_64", "AMD64"):
        forced |= {"NUMBA_CPU_NAME": PROCESSORS[path], "NUMBA_CPU_FEATURES": ""}
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, str(out), folder, path],
        check=True,
        capture_output=True,
        text=True,
        env={**os.environ, **forced},
    )
    np.testing.assert_array_equal(np.load(out), all_products())
    used = set(done.stdout.split())
    assert PRODUCTS[path] in used if path != "generic" else not used
    if path != "avx512vnni":
        assert not any(name.endswith("512") for name in used)
