"""Integer-activation kernels equal plain NumPy, on every path that this machine can run."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc.testing.tolerance import sum_bound
from lrc_kernels.backend import get_kernels
from lrc_kernels.cpu.codes.decode_levels import decode_rows_scalar
from lrc_kernels.cpu.codes.decode_rows import decode_rows_lattice
from lrc_kernels.cpu.codes.trellis import decode_trellis, matvec_trellis
from lrc_kernels.cpu.dot import matvec_i8
from lrc_kernels.cpu.scan.causal_conv import causal_conv
from lrc_kernels.cpu.scan.softplus import softplus
from lrc_kernels.cpu.scan.ssd import ssd_scan
from lrc_kernels.simd import paths as simd_paths
from lrc_kernels.trellis_code import TILE, tile_rows

REFERENCE = get_kernels("reference")
sizes = {"m": st.integers(1, 6), "n": st.integers(1, 700), "seed": st.integers(3, 2**32)}
SHAPES = [(1, 1), (3, 8), (5, 63), (4, 64), (9, 72), (2, 200), (7, 256), (11, 576), (3, 1000)]
TRELLIS_SHAPES = [(16, 1), (48, 70), (32, 131), (192, 65), (128, 40), (512, 100)]


def random_codes(rng, shape, dtype):
    return rng.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def lattice_case(m, n, seed, second=None):
    rng = np.random.default_rng(seed)
    codes = random_codes(rng, (m, -(-n // 8)), np.uint16)
    rest = None if second is None else random_codes(rng, codes.shape, second)
    return codes, rest, rng.standard_normal(n).astype(np.float32)


def uniform_case(m, n, bits, group, seed):
    rng = np.random.default_rng(seed)
    words = REFERENCE.pack_bits(rng.integers(0, 2**bits, (m, n)).astype(np.uint8), bits)
    scales = rng.uniform(0.01, 2, (m, -(-n // group))).astype(np.float16) if group else None
    return words, scales, rng.standard_normal(n).astype(np.float32)


def trellis_case(m, n, bits, seed):
    rng = np.random.default_rng(seed)
    rows = tile_rows(m)
    words = random_codes(rng, (m // rows, -(-n * rows // TILE) * 16 * bits), np.uint16)
    return words, rows, rng.standard_normal(n).astype(np.float32)


def rounded(x):
    """The vector that the kernels really multiply with, float64."""
    q, s = matvec_i8.quantize(x).values()
    return q * np.repeat(s.astype(np.float64), 64)[: len(x)]


def assert_product(found, W, x, largest):
    bound = 8 * sum_bound(len(x) + 8, np.float32, largest * (float(np.abs(x).sum()) + 1e-30))
    assert found.dtype == np.float32
    assert np.abs(found - W[:, : len(x)].astype(np.float64) @ rounded(x)).max() <= bound


@given(n=st.integers(1, 600), seed=st.integers(3, 2**32), power=st.integers(-20, 20))
def test_activations_are_within_half_a_step(n, seed, power):
    x = (np.random.default_rng(seed).standard_normal(n) * 10.0**power).astype(np.float32)
    q, s = matvec_i8.quantize(x).values()
    step = np.repeat(s.astype(np.float64), 64)[:n]
    assert (np.abs(q * step - x) <= 0.51 * step).all()
    assert np.abs(q).max() == 16256


def test_zero_activations():
    x = matvec_i8.quantize(np.zeros(130, np.float32))
    codes = np.full((3, 17), 65535, np.uint16)
    np.testing.assert_array_equal(matvec_i8.matvec_lattice(codes, x), np.zeros(3))


@pytest.mark.parametrize("second", [None, np.uint8, np.uint16], ids=str)
@given(**sizes)
def test_lattice(second, m, n, seed):
    codes, rest, x = lattice_case(m, n, seed, second)
    W = REFERENCE.decode_e8p(codes).reshape(m, -1)
    if second is np.uint8:
        W = W + REFERENCE.decode_e81b(rest).reshape(m, -1) / 3
    elif second is np.uint16:
        W = W + REFERENCE.decode_e8p(rest).reshape(m, -1) / 3
    found = matvec_i8.matvec_lattice(codes, matvec_i8.quantize(x), rest, 3.0)
    assert_product(found, W, x, 8.0)


def test_every_point_of_the_lattice():
    codes = np.arange(65536, dtype=np.uint16)[:, None]
    points = REFERENCE.decode_e8p(codes[:, 0]).astype(np.float64)
    for x in np.eye(8, dtype=np.float32):
        found = matvec_i8.matvec_lattice(codes, matvec_i8.quantize(x))
        np.testing.assert_allclose(found, points @ x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bits", range(2, 9))
@given(group=st.sampled_from([0, 64, 128]), **sizes)
def test_uniform(bits, group, m, n, seed):
    words, scales, x = uniform_case(m, n, bits, group, seed)
    W = REFERENCE.unpack_bits(words, bits, n) - (2**bits - 1) / 2
    if scales is not None:
        W = W * np.repeat(scales.astype(np.float64), group, axis=1)[:, :n]
    found = matvec_i8.matvec_uniform(words, bits, scales, group, matvec_i8.quantize(x))
    assert_product(found, W, x, 2.0 ** (bits + 2))


@pytest.mark.parametrize("bits", [2, 3, 4])
@given(**sizes)
def test_looked_up(bits, m, n, seed):
    words, _, x = uniform_case(m, n, bits, 0, seed)
    table = np.random.default_rng(seed).integers(0, 256, 16, dtype=np.uint8)
    W = table[REFERENCE.unpack_bits(words, bits, n)] - 128.0
    found = matvec_i8.matvec_levels(words, bits, table, matvec_i8.quantize(x))
    assert_product(found, W, x, 256.0)


def test_rows_are_multiplied_by_themselves():
    codes, _, x = lattice_case(33, 577, 41)
    whole = matvec_i8.matvec_lattice(codes, matvec_i8.quantize(x))
    parts = [
        matvec_i8.matvec_lattice(codes[a:b], matvec_i8.quantize(x))
        for a, b in ((0, 1), (1, 20), (20, 33))
    ]
    np.testing.assert_array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("n", [64, 200, 577])
def test_grouped_rows_are_multiplied_by_themselves(bits, n):
    """Four at once or one by one."""
    words, scales, x = uniform_case(11, n, bits, 64, 43)
    act = matvec_i8.quantize(x)
    parts = [
        matvec_i8.matvec_uniform(words[a:b], bits, scales[a:b], 64, act)
        for a, b in ((0, 1), (1, 3), (3, 8), (8, 11))
    ]
    whole = matvec_i8.matvec_uniform(words, bits, scales, 64, act)
    np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_nothing_is_read_past_the_end(tmp_path):
    """Codes at the very end of a mapped page: reading one byte more would end the process."""
    for m, n in SHAPES:
        for bits in range(2, 9):
            words, scales, x = uniform_case(m, n, bits, 64, 17)
            mapped = at_page_end(tmp_path, words)
            act = matvec_i8.quantize(x)
            for group in (0, 64):
                halves = scales if group else None
                np.testing.assert_array_equal(
                    matvec_i8.matvec_uniform(mapped, bits, halves, group, act),
                    matvec_i8.matvec_uniform(words, bits, halves, group, act),
                )
            decode_rows_scalar(mapped, bits, np.ones((1, 1), np.float32), 0, empty(m, n))
        codes, rest, x = lattice_case(m, n, 19, np.uint8)
        act = matvec_i8.quantize(x)
        np.testing.assert_array_equal(
            matvec_i8.matvec_lattice(
                at_page_end(tmp_path, codes), act, at_page_end(tmp_path, rest), 2.0
            ),
            matvec_i8.matvec_lattice(codes, act, rest, 2.0),
        )
        first, second = at_page_end(tmp_path, codes), at_page_end(tmp_path, rest)
        decode_rows_lattice(first, np.ones(1, np.float32), n, empty(m, n), second)
    for m, n in TRELLIS_SHAPES:
        words, rows, x = trellis_case(m, n, 3, 18)
        act = matvec_i8.quantize(x)
        found = matvec_i8.matvec_trellis(at_page_end(tmp_path, words), 3, 16, rows, act)
        expected = matvec_i8.matvec_trellis(words, 3, 16, rows, act)
        np.testing.assert_array_equal(found, expected)
        decode_trellis(at_page_end(tmp_path, words), 3, 16, rows, n)
        matvec_trellis(at_page_end(tmp_path, words), 3, 16, rows, x)


def empty(m, n):
    return np.empty((m, n), np.float32)


def at_page_end(folder, array):
    """A copy whose last byte is the last byte of a memory-mapped file of whole pages."""
    page = 65536
    total = -(-array.nbytes // page) * page
    path = folder / "mapped"
    path.unlink(missing_ok=True)
    raw = np.memmap(path, np.uint8, "w+", shape=(total,))
    raw[total - array.nbytes :] = array.reshape(-1).view(np.uint8)
    return raw[total - array.nbytes :].view(array.dtype).reshape(array.shape)


def test_wrong_shapes_are_refused():
    act = matvec_i8.quantize(np.ones(64, np.float32))
    with pytest.raises(ValueError, match="7 vectors"):
        matvec_i8.matvec_lattice(np.zeros((2, 7), np.uint16), act)
    with pytest.raises(ValueError, match="second stage"):
        matvec_i8.matvec_lattice(np.zeros((2, 8), np.uint16), act, np.zeros((2, 7), np.uint8))
    with pytest.raises(ValueError, match="31 bytes"):
        matvec_i8.matvec_uniform(np.zeros((2, 31), np.uint8), 4, None, 0, act)
    with pytest.raises(ValueError, match="32 bytes and uint8"):
        matvec_i8.matvec_levels(np.zeros((2, 31), np.uint8), 4, np.zeros(16, np.uint8), act)
    with pytest.raises(ValueError, match="groups of 32"):
        matvec_i8.matvec_uniform(
            np.zeros((2, 32), np.uint8), 4, np.ones((2, 2), np.float16), 32, act
        )


def all_products():
    """Products of fixed cases, for comparing paths."""
    found = []
    for sign in (1, -1):
        largest = matvec_i8.quantize(np.full(256, sign * 3.0, np.float32))
        for bits in range(2, 9):
            words = np.full((2, 32 * bits), 255, np.uint8)
            found.append(matvec_i8.matvec_uniform(words, bits, None, 0, largest))
    for m, n in SHAPES:
        for second in (None, np.uint8, np.uint16):
            codes, rest, x = lattice_case(m, n, m + n, second)
            found.append(matvec_i8.matvec_lattice(codes, matvec_i8.quantize(x), rest, 2.04))
            dense = empty(m, n)
            decode_rows_lattice(codes, np.ones(1, np.float32), n, dense, rest, 2.04)
            found.append(dense.reshape(-1))
        for bits in range(2, 9):
            for group in (0, 64, 128):
                words, scales, x = uniform_case(m, n, bits, group, m + n)
                act = matvec_i8.quantize(x)
                found.append(matvec_i8.matvec_uniform(words, bits, scales, group, act))
                if bits <= 4:
                    table = np.arange(1, 250, 16, dtype=np.uint8)
                    found.append(matvec_i8.matvec_levels(words, bits, table, act))
            dense = empty(m, n)
            decode_rows_scalar(words, bits, np.ones((1, 1), np.float32), 0, dense)
            found.append(dense.reshape(-1))
    for m, n in TRELLIS_SHAPES:
        for bits, state_bits in ((2, 8), (3, 12), (4, 16)):
            words, rows, x = trellis_case(m, n, bits, m + n)
            code = words, bits, state_bits, rows
            acts = matvec_i8.quantize(x), matvec_i8.quantize(x, True)
            found += [matvec_i8.matvec_trellis(*code, act) for act in acts]
            found += [matvec_trellis(*code, x), decode_trellis(*code, n).reshape(-1)]
    return np.concatenate([*found, *state_space_values()])


def state_space_values():
    """Steps, convolved inputs and scanned ones of 3 heads of 37 channels, ends of vectors too."""
    rng = np.random.default_rng(7)
    x, weight, B = (rng.standard_normal(s).astype(np.float32) for s in ((9, 111), (4, 111), (9, 5)))
    steps, y, last = x[:, :3].copy(), np.empty_like(x), np.zeros((3, 111), np.float32)
    softplus(steps, steps)
    causal_conv(x, weight, weight[0], weight[1:], y, last, silu=True)
    z, state = np.empty((9, 3, 37), np.float32), np.zeros((3, 5, 37), np.float32)
    ssd_scan(y.reshape(z.shape), steps, -steps[0], B, B[::-1], steps[1], state, z, state)
    return [array.reshape(-1) for array in (steps, y, last, z, state)]


_CHILD = """
import re
import sys
import numpy as np
sys.path.insert(0, sys.argv[2])
import test_simd
from lrc_kernels.simd import paths as simd_paths
from lrc_kernels.cpu.dot import dot_e8p
from lrc_kernels.cpu.dot import dot_levels
from lrc_kernels.cpu.dot import dot_trellis
assert simd_paths.path() == sys.argv[3]
np.save(sys.argv[1], test_simd.all_products())
for name, kernel in (
    ("e8p_rows", dot_e8p.e8p_rows.kernel(3)),
    ("level_rows", dot_levels.level_rows.kernel(4, 0)),
    ("trellis_rows", dot_trellis.trellis_rows.kernel(2)),
):
    for code in kernel.inspect_llvm().values():
        print(name, *re.findall(r"llvm\\.x86[\\w.]*", code))
"""
#: Processors that have what a path needs and little more: LLVM may use nothing else for it.
PROCESSORS = {"avxvnni": "alderlake", "avx2": "haswell", "generic": "generic"}


@pytest.mark.parametrize("path", [p for p in simd_paths.PATHS if p != simd_paths.path()])
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
    lines = [line.split() for line in done.stdout.splitlines()]
    for kernel in ("e8p_rows", "level_rows", "trellis_rows"):
        used = {name for line in lines if line[0] == kernel for name in line[1:]}
        assert not used if path == "generic" else used
        if path != "avx512vnni":
            assert not any(name.endswith("512") for name in used)
        by_words = ("avx2", "avxvnni") if kernel == "trellis_rows" else ("avx2",)
        name = "pmadd.wd" if kernel == "level_rows" else "pmadd.ub.sw"
        assert (f"llvm.x86.avx2.{name}" in used) == (path in by_words)


def test_the_generic_path_is_always_there():
    assert simd_paths.available_paths()[-1] == "generic"
    assert simd_paths.path() in simd_paths.available_paths()


def test_other_features_than_the_machines_need_the_generic_path():
    code = "from lrc_kernels.simd.paths import path; print(path())"
    environment = {k: v for k, v in os.environ.items() if k != simd_paths.SWITCH}
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        env={**environment, "NUMBA_CPU_NAME": "generic"},
    )
    assert done.stdout.split() == ["generic"]


def test_largest_products_do_not_saturate():
    """Full bytes times the largest activations, of either sign, in every path's order."""
    for sign in (1, -1):
        act = matvec_i8.quantize(np.full(192, sign * 3.0, np.float32))
        for bits in range(2, 9):
            words = np.full((3, 24 * bits), 255, np.uint8)
            found = matvec_i8.matvec_uniform(words, bits, None, 0, act)
            np.testing.assert_allclose(found, sign * 3 * 192 * (2**bits - 1) / 2, rtol=1e-6)
