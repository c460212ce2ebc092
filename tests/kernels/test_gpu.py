"""Kernels on a CUDA device: the codes of the CPU, and sums within rounding. Skipped without one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import lrc
from lrc.linalg.factor import factor, feedback_matrix
from lrc.linalg.norms import proxy_loss
from lrc.quant import get_quantizer
from lrc.quant.ldlq import Grid, ldlq, polish
from lrc.spec import DecomposeSpec, LowRankSpec, QuantSpec
from lrc.testing.tolerance import sum_bound
from lrc_kernels import trellis_code
from lrc_kernels.backend import get_kernels
from lrc_kernels.cpu.encode.rings import encode_shuffle
from lrc_kernels.cpu.encode.viterbi import encode_trellis
from lrc_kernels.gpu import device
from lrc_kernels.gpu.rings import encode_rings
from lrc_kernels.trellis_fixed import hashed_code, shuffled_code


def missing() -> str:
    try:
        device.cupy()
    except RuntimeError as error:
        return str(error)
    return ""


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "there is a device")
CPU = get_kernels("cpu")


def gpu():
    return get_kernels("gpu")


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def moment(seed, n):
    X = normal(seed, 2 * n, n).astype(np.float64) * np.exp(0.4 * normal(seed + 1, n))
    return X.T @ X / len(X)


@pytest.mark.parametrize("scale", [1.0, 30.0])
@pytest.mark.parametrize(
    ("bits", "state_bits"),
    [(2, 8), (3, 8), (4, 8), (2, 10), (2, 12), (3, 12), (4, 12), (2, 14), (4, 14), (2, 16)],
)
def test_paths_are_those_of_the_cpu(bits, state_bits, scale):
    Z = scale * normal(7401, 40, 256)
    found = encode_rings(Z, hashed_code(bits, state_bits))
    np.testing.assert_array_equal(found, encode_trellis(Z, bits, state_bits))


@pytest.mark.parametrize(("bits", "state_bits"), [(2, 10), (2, 12), (3, 12), (4, 12)])
def test_paths_of_shuffle_codes_are_those_of_the_cpu(bits, state_bits):
    Z = normal(7403, 40, 256)
    found = encode_rings(Z, shuffled_code(bits, state_bits))
    np.testing.assert_array_equal(found, encode_shuffle(Z, bits, state_bits))


def test_more_rings_than_blocks_and_none():
    Z = normal(7405, 5000, 256)
    code = hashed_code(2, 8)
    np.testing.assert_array_equal(encode_rings(Z, code), encode_trellis(Z, 2, 8))
    assert encode_rings(Z[:0], code).shape == (0, 256)


CASES = [("trellis12", 2), ("trellis8", 4), ("shuffle12", 3)]


def problem(name, bits, m, n, *, rows=False):
    W, H = normal(7407, m, n), moment(7409, n)
    quantizer = get_quantizer(QuantSpec(name, bits), m)
    scale = np.float32(1 / quantizer.input_scale) * (
        1 + 0.2 * np.abs(normal(7411, m, 1)) if rows else np.ones((1, 1), np.float32)
    )
    grid = Grid(quantizer, scale.astype(np.float32))
    return W, H.astype(np.float32), feedback_matrix(factor(H).cholesky, 1), grid


@pytest.mark.parametrize("rows", [False, True])
@pytest.mark.parametrize(("name", "bits"), CASES)
def test_ldlq_of_a_column_panel_is_bit_for_bit_that_of_the_cpu(name, bits, rows):
    W, _, U, grid = problem(name, bits, 512, 100, rows=rows)
    found, expected = ldlq(W, U, grid, device="cuda"), ldlq(W, U, grid)
    np.testing.assert_array_equal(found.codes[0], expected.codes[0])
    np.testing.assert_array_equal(found.values, expected.values)


@pytest.mark.parametrize(("name", "bits"), CASES)
def test_wide_matrices_lose_what_they_lose_on_the_cpu(name, bits):
    W, H, U, grid = problem(name, bits, 512, 300)
    found, expected = ldlq(W, U, grid, device="cuda"), ldlq(W, U, grid)
    loss = proxy_loss(W - found.values, H)
    assert loss == pytest.approx(proxy_loss(W - expected.values, H), rel=0.02)
    moved = polish(W, found, H, grid, 2, device="cuda")
    less = proxy_loss(W - moved.values, H)
    assert less < loss
    assert less == pytest.approx(
        proxy_loss(W - polish(W, expected, H, grid, 2).values, H), rel=0.02
    )
    decoded = grid.quantizer.decode(moved.codes) * grid.scale
    np.testing.assert_array_equal(decoded, moved.values)


def test_threads_and_repetition_change_no_bit():
    W, H, U, grid = problem("trellis8", 2, 768, 200)

    def work(_):
        return polish(W, ldlq(W, U, grid, device="cuda"), H, grid, 1, device="cuda").codes[0]

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(work, range(8))
    assert all(np.array_equal(first, other) for other in others)


@pytest.mark.parametrize("quant", [QuantSpec("trellis12", 2), QuantSpec("e8p", 2)])
@pytest.mark.parametrize("rank", [0, 16])
def test_a_whole_decomposition_is_as_good(quant, rank):
    W, H = normal(7413, 512, 384), moment(7415, 384)
    spec = DecomposeSpec(quant=quant, low_rank=LowRankSpec(rank=rank))
    expected = lrc.decompose(W, H, spec)
    on_device = DecomposeSpec(quant=quant, low_rank=LowRankSpec(rank=rank), device="cuda")
    found, again = (lrc.decompose(W, H, on_device) for _ in range(2))
    assert found.relative_error == pytest.approx(expected.relative_error, rel=0.01)
    np.testing.assert_array_equal(found.to_dense(), again.to_dense())


@pytest.mark.parametrize("sigma", [0.05, 0.5, 1.03, 2.5, 50.0, None])
def test_lattice_points_are_those_of_the_cpu(sigma):
    z = normal(7417, 3000, 8) * np.float32(sigma or 1)
    if sigma is None:  # ties
        z = (np.random.default_rng(7419).integers(-20, 20, (3000, 8)) / 8).astype(np.float32)
    for name in ("e8p", "e81b"):
        codes = getattr(gpu(), f"encode_{name}")(z)
        np.testing.assert_array_equal(codes, getattr(CPU, f"encode_{name}")(z))
        points = getattr(gpu(), f"decode_{name}")(codes)
        np.testing.assert_array_equal(points, getattr(CPU, f"decode_{name}")(codes))


@pytest.mark.parametrize("bits", range(1, 9))
def test_scalar_codes_are_those_of_the_cpu(bits):
    levels = np.sort(normal(7421, 1 << bits))
    z = normal(7423, 9, 37)
    codes = gpu().nearest_level(z, levels)
    np.testing.assert_array_equal(codes, CPU.nearest_level(z, levels))
    words = gpu().pack_bits(codes, bits)
    np.testing.assert_array_equal(words, CPU.pack_bits(codes, bits))
    np.testing.assert_array_equal(gpu().unpack_bits(words, bits, 37), codes)
    x, scales = normal(7425, 37), np.abs(normal(7427, 9, 3))
    found = gpu().matvec_levels(words, bits, levels, scales, 16, x)
    dense = np.abs(levels[codes]) * np.repeat(scales, 16, axis=1)[:, :37]
    bound = 2 * sum_bound(37, np.float32) * (dense @ np.abs(x))
    assert (np.abs(found - CPU.matvec_levels(words, bits, levels, scales, 16, x)) <= bound).all()


@pytest.mark.parametrize("rows", trellis_code.TILE_ROWS)
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_trellis_words_decode_as_on_the_cpu(bits, rows):
    n = 37
    words = np.random.default_rng(7429).integers(
        0, 1 << 16, (3, -(-n * rows // 256) * 16 * bits), np.uint16
    )
    expected = CPU.decode_trellis(words, bits, 12, rows, n)
    np.testing.assert_array_equal(gpu().decode_trellis(words, bits, 12, rows, n), expected)
    x = normal(7431, n)
    bound = 2 * sum_bound(n, np.float32) * (np.abs(expected) @ np.abs(x))
    found = gpu().matvec_trellis(words, bits, 12, rows, x)
    assert (np.abs(found - expected @ x) <= bound).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [1, 2, 64, 1024])
def test_the_transform_is_that_of_the_cpu(width, dtype):
    found = normal(7433, 5, width).astype(dtype)
    expected = found.copy()
    gpu().fwht(found)
    CPU.fwht(expected)
    np.testing.assert_array_equal(found, expected)


def test_products_with_points():
    rng = np.random.default_rng(7435)
    codes = rng.integers(0, 1 << 16, (6, 5), np.uint16)
    second = rng.integers(0, 1 << 16, (6, 5), np.uint16)
    x = normal(7437, 40)
    bound = 2 * sum_bound(80, np.float32) * 6 * np.abs(x).sum()
    for name, rest in (
        ("matvec_e8p_rvq3", (second % 256).astype(np.uint8)),
        ("matvec_e8p_rvq4", second),
    ):
        found = getattr(gpu(), name)(codes, rest, 3.5, x)
        assert (np.abs(found - getattr(CPU, name)(codes, rest, 3.5, x)) <= bound).all()
    assert (np.abs(gpu().matvec_e8p(codes, x) - CPU.matvec_e8p(codes, x)) <= bound).all()
