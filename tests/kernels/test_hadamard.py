"""Hadamard matrices of every constructible order, and the orthonormal transform of any width."""

from __future__ import annotations

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc.testing.tolerance import assert_within, factor_bound, relative_difference, sum_bound
from lrc_kernels import hadamard_order
from lrc_kernels.backend import get_kernels
from lrc_kernels.hadamard_order import constructible, hadamard_block, hadamard_matrix
from lrc_kernels.rotate import hadamard_transform

#: Orders below 500 that neither Sylvester's nor Paley's constructions reach (Kronecker products
#: of two Paley matrices are not used).
OUT_OF_REACH = {92, 116, 156, 172, 184, 188, 232, 236, 260, 268, 292, 324, 356, 372, 376, 404} | {
    412, 428, 436, 452, 472, 476,
}  # fmt: skip
#: Widths of real models and what they get.
WIDTHS = {
    64: (64, 1), 576: (576, 36), 896: (896, 28), 960: (960, 60), 1536: (1536, 12),
    2560: (2560, 20), 4864: (4864, 76), 5632: (5632, 44), 8960: (8960, 140),
    10920: (2184, 1092), 11008: (11008, 344), 13696: (128, 1), 13824: (13824, 108),
    14336: (14336, 28), 18176: (18176, 284), 18944: (18944, 148), 29568: (29568, 924),
    577: (1, 1), 6: (2, 1),
}  # fmt: skip


def test_orders_below_500():
    orders = [k for k in range(1, 500) if constructible(k)]
    expected = [1, 2, *(k for k in range(4, 500, 4) if k not in OUT_OF_REACH)]
    assert orders == expected


@pytest.mark.parametrize("k", [1, 2, 4, 12, 20, 28, 36, 44, 52, 60, 76, 100, 148, 244, 256, 344])
def test_hadamard_matrices(k):
    h = hadamard_matrix(k).astype(np.int64)
    assert set(np.unique(h)) <= {-1, 1}
    np.testing.assert_array_equal(h @ h.T, k * np.eye(k, dtype=np.int64))


def test_orders_of_prime_power_fields_are_built():
    """28 = 3^3 + 1, 52 = 2 (5^2 + 1), 244 = 3^5 + 1, 344 = 7^3 + 1."""
    for q in (27, 25, 243, 343):
        jacobsthal = hadamard_order._jacobsthal(q).astype(np.int64)
        assert (jacobsthal.sum(axis=1) == 0).all()
        np.testing.assert_array_equal(jacobsthal @ jacobsthal.T, q * np.eye(q, dtype=np.int64) - 1)


def test_unreachable_order_is_refused():
    with pytest.raises(ValueError, match="order 92"):
        hadamard_matrix(92)


@pytest.mark.parametrize(("n", "expected"), WIDTHS.items())
def test_blocks_of_model_widths(n, expected):
    assert hadamard_block(n) == expected


@given(n=st.integers(1, 5000))
def test_blocks_divide_and_are_built_from_a_constructible_order(n):
    block, order = hadamard_block(n)
    assert n % block == 0
    assert block % order == 0
    assert (block // order).bit_count() == 1
    assert constructible(order)
    assert block >= n & -n


@pytest.mark.parametrize("p", [1, 2, 4, 8, 16, 64, 512, 4096])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fwht_equals_the_reference(p, dtype):
    x = np.random.default_rng(p + 3).standard_normal((3, p)).astype(dtype)
    fast, slow = x.copy(), x.copy()
    get_kernels("cpu").fwht(fast)
    get_kernels("reference").fwht(slow)
    bound = sum_bound(p, dtype, float(np.abs(x).sum(axis=1).max()))
    assert_within(float(np.abs(fast - slow).max()), bound)


@pytest.mark.parametrize("bad", [np.zeros((2, 6)), np.zeros(8), np.zeros((8, 2), int),
                                 np.zeros((8, 4)).T])  # fmt: skip
def test_fwht_refuses(bad):
    with pytest.raises(ValueError, match="fwht needs"):
        get_kernels("cpu").fwht(bad)


def dense_transform(n):
    """Return M_n, multiplied out from its definition."""
    block, order = hadamard_block(n)
    sylvester = np.ones((1, 1))
    while sylvester.shape[0] < block // order:
        sylvester = np.kron(sylvester, np.array([[1, 1], [1, -1]]))
    one = np.kron(hadamard_matrix(order), sylvester) / np.sqrt(block)
    return np.kron(np.eye(n // block), one)


@pytest.mark.parametrize("n", [1, 2, 3, 6, 8, 12, 20, 24, 28, 36, 44, 56, 64, 92, 200, 256])
def test_transform_equals_the_dense_matrix(n):
    x = np.random.default_rng(n).standard_normal((2, 3, n))
    M = dense_transform(n)
    bound = factor_bound(n, np.float64)
    assert_within(relative_difference(hadamard_transform(x), x @ M.T), bound)
    assert_within(relative_difference(hadamard_transform(x, transpose=True), x @ M), bound)


@given(
    x=st.integers(1, 120).flatmap(
        lambda n: hnp.arrays(np.float64, (2, n), elements=st.floats(-1e3, 1e3))
    ),
    single=st.booleans(),
)
def test_transform_is_orthonormal(x, single):
    x = x.astype(np.float32) if single else x
    before = x.copy()
    y = hadamard_transform(x)
    back = hadamard_transform(y, transpose=True)
    size = float(np.linalg.norm(before.astype(np.float64)))
    bound = factor_bound(x.shape[1], x.dtype) * size
    assert y.dtype == x.dtype
    assert y.shape == x.shape
    assert_within(float(np.linalg.norm((back - before).astype(np.float64))), bound)
    assert_within(abs(float(np.linalg.norm(y.astype(np.float64))) - size), bound)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("n", [4864, 11008])
def test_large_widths_round_trip_in_float32(n):
    x = np.random.default_rng(n).standard_normal((2, n)).astype(np.float32)
    back = hadamard_transform(hadamard_transform(x), transpose=True)
    assert_within(relative_difference(back, x), sum_bound(n, np.float32))


def test_proxy_loss_is_invariant():
    """tr(W H W^T) is the same after W -> W S M^T, H -> M S H S M^T."""
    rng = np.random.default_rng(77)
    n = 60
    W, X = rng.standard_normal((7, n)), rng.standard_normal((n, 90))
    signs = rng.choice([-1.0, 1.0], n)
    H = X @ X.T
    Wr = hadamard_transform(W * signs)
    Hr = hadamard_transform(hadamard_transform(H * signs * signs[:, None]).T)
    loss, turned = np.trace(W @ H @ W.T), np.trace(Wr @ Hr @ Wr.T)
    assert_within(abs(loss - turned) / loss, factor_bound(n, np.float64))


def test_one_hot_is_spread_evenly():
    """A Hadamard row has equal magnitudes: incoherence is as good as it gets."""
    x = np.zeros((1, 1536), np.float32)
    x[0, 77] = 1
    np.testing.assert_allclose(np.abs(hadamard_transform(x)), 1536**-0.5, rtol=1e-6)


def test_transform_refuses_other_dtypes():
    with pytest.raises(TypeError, match="int64"):
        hadamard_transform(np.zeros((2, 8), np.int64))


def test_empty_input():
    assert hadamard_transform(np.zeros((0, 24), np.float32)).shape == (0, 24)
