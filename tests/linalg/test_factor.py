"""Damping, Cholesky with retries, block LDL and the Schur complement."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc.errors import NumericalError
from lrc.linalg.factor import (
    block_ldl,
    block_trace,
    damping_shift,
    factor,
    feedback_matrix,
    schur_complement,
)
from lrc.linalg.lowrank import solve_left
from lrc.testing.laws import check_block_ldl, check_error_identity, dense_diagonal, quadratic_loss
from lrc.testing.strategies import degenerate_moments, second_moments, seeds
from lrc.testing.tolerance import assert_within, factor_bound, relative_difference

F64 = np.float64
SIZES = st.integers(1, 20)
BLOCKS = st.sampled_from([1, 2, 3, 8])


@given(data=st.data())
def test_cholesky_factor_reproduces_h(data):
    H = data.draw(SIZES.flatmap(second_moments))
    before = H.copy()
    found = factor(H)
    assert (found.ridge, found.retries) == (0.0, 0)
    np.testing.assert_array_equal(found.shift, 0.0)
    np.testing.assert_array_equal(found.cholesky, np.tril(found.cholesky))
    error = relative_difference(found.cholesky @ found.cholesky.T, H)
    assert_within(error, factor_bound(len(H), F64), "C C^T")
    np.testing.assert_array_equal(H, before)


@given(data=st.data())
def test_degenerate_moments_factor_once_damped_or_raised(data):
    H = data.draw(SIZES.flatmap(degenerate_moments))
    damped = H + np.diag(damping_shift(H, data.draw(st.sampled_from([0.0, 1e-4, 0.01]))))
    before = damped.copy()
    found = factor(damped)
    assert np.isfinite(found.cholesky).all()
    assert (found.retries > 0) == (found.ridge > 0)
    assert found.ridge <= 0.01, "rounding-sized defects need little"
    diagonal = np.diag(damped)
    np.testing.assert_allclose(
        found.shift, found.ridge * np.maximum(diagonal, 1e-6 * diagonal.max()), rtol=1e-12
    )
    raised = damped + np.diag(found.shift)
    error = relative_difference(found.cholesky @ found.cholesky.T, raised)
    assert_within(error, factor_bound(len(H), F64), "C C^T of the raised matrix")
    np.testing.assert_array_equal(damped, before)


def test_retries_are_counted_from_1e_6_upwards_in_tens():
    H = np.array([[1.0, 1.0 + 2e-5], [1.0 + 2e-5, 1.0]])
    found = factor(H)
    assert found.ridge == pytest.approx(1e-4)
    assert found.retries == 3


def test_a_channel_almost_dead_is_raised_with_the_loudest():
    """Its own diagonal cannot carry what rounding left beside it."""
    H = np.array([[1.0, 1e-7], [1e-7, 0.0]])
    found = factor(H)
    assert found.retries == 1
    np.testing.assert_allclose(found.shift, [1e-6, 1e-12], rtol=1e-12)


def test_damping_is_never_raised_beyond_a_tenth():
    def almost(beyond):
        return np.array([[1.0, 1.0 + beyond], [1.0 + beyond, 1.0]])

    assert factor(almost(0.09)).ridge == pytest.approx(0.1)
    with pytest.raises(NumericalError, match=r"after 6 increases of the damping \(last 1\.0e-01\)"):
        factor(almost(0.11))


def test_what_no_damping_repairs_is_refused():
    with pytest.raises(NumericalError, match="not positive definite after 6"):
        factor(-np.eye(3))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_entries_that_are_not_finite_are_refused(bad):
    H = np.eye(3)
    H[0, 2] = H[2, 0] = bad
    with pytest.raises(NumericalError, match="not finite"):
        damping_shift(H, 0.01)
    with pytest.raises(NumericalError, match="not finite"):
        factor(H)


def test_damping_is_a_share_of_each_channel_and_revives_dead_ones():
    H = np.diag([4.0, 0.0, 0.5, 100.0])
    np.testing.assert_allclose(damping_shift(H, 0.1), [0.4, 0.5, 0.05, 10.0], rtol=1e-15)
    np.testing.assert_array_equal(damping_shift(np.zeros((2, 2)), 0.1), [1.0, 1.0])
    np.testing.assert_array_equal(damping_shift(np.diag([2.0, -1.0]), 0.0), [0.0, 2.0])


@given(data=st.data(), b=BLOCKS)
def test_block_ldl_reproduces_h_for_any_block_even_ragged(data, b):
    H = data.draw(SIZES.flatmap(second_moments))
    C = factor(H).cholesky
    before = C.copy()
    ldl = block_ldl(C, b)
    check_block_ldl(H, ldl)
    np.testing.assert_array_equal(C, before)
    trace = np.trace(dense_diagonal(ldl, len(H)))
    assert_within(trace, np.trace(H) * (1 + factor_bound(len(H), F64)), "tr(D) against tr(H)")
    assert_within(abs(block_trace(C, b) - trace), factor_bound(len(H), F64) * trace, "tr(D)")


@given(data=st.data(), b=BLOCKS)
def test_a_block_diagonal_h_is_its_own_d(data, b):
    sizes = [b, b, max(b - 1, 1)]
    H = np.zeros((sum(sizes), sum(sizes)))
    for i, size in enumerate(sizes):
        a = i * b
        H[a : a + size, a : a + size] = data.draw(second_moments(size, 3.0))
    ldl = block_ldl(factor(H).cholesky, b)
    np.testing.assert_array_equal(ldl.unit, np.eye(len(H)))
    assert_within(relative_difference(dense_diagonal(ldl, len(H)), H), factor_bound(len(H), F64))


@given(data=st.data(), b=BLOCKS)
def test_error_identity_for_any_q(data, b):
    H = data.draw(SIZES.flatmap(second_moments))
    rng = np.random.default_rng(data.draw(seeds()))
    W, Q = rng.standard_normal((2, 3, len(H)))
    check_error_identity(W, Q, H, block_ldl(factor(H).cholesky, b))


@given(data=st.data(), b=BLOCKS)
def test_feedback_is_the_strictly_block_lower_part(data, b):
    H = data.draw(SIZES.flatmap(second_moments))
    C = factor(H).cholesky
    feedback = feedback_matrix(C, b)
    assert feedback.dtype == np.float32
    block = np.arange(len(H)) // b
    expected = np.where(block[:, None] > block, block_ldl(C, b).unit, 0.0)
    np.testing.assert_array_equal(feedback, expected.astype(np.float32))


@given(data=st.data())
def test_schur_complement_is_the_loss_after_the_best_l(data):
    n = data.draw(st.integers(2, 16))
    H = data.draw(second_moments(n, 4.0))
    r = data.draw(st.integers(1, n - 1))
    rng = np.random.default_rng(data.draw(seeds()))
    R = np.linalg.qr(rng.standard_normal((n, r)))[0].T
    B = rng.standard_normal((3, n))
    before = H.copy(), R.copy()
    lowered = schur_complement(H, R)
    np.testing.assert_array_equal(lowered, lowered.T)
    size = np.linalg.norm(H, 2)
    slack = factor_bound(n, F64, solve=True, cond=np.linalg.cond(H) ** 2)
    values = np.linalg.eigvalsh(lowered)
    assert_within(-values[0], slack * size, "negative part")
    assert_within(values[r - 1], slack * size, "null space of dimension r")
    assert_within(np.linalg.norm(lowered @ R.T), slack * size, "H' R^T")
    best = quadratic_loss(B - solve_left(B, H, R) @ R, H)
    energy = quadratic_loss(B, H)
    assert_within(abs(quadratic_loss(B, lowered) - best), slack * energy, "tr(B H' B^T)")
    np.testing.assert_array_equal(H, before[0])
    np.testing.assert_array_equal(R, before[1])


@given(data=st.data())
def test_schur_complement_of_degenerate_moments_is_finite_and_no_larger(data):
    n = data.draw(st.integers(1, 12))
    H = data.draw(degenerate_moments(n))
    R = np.random.default_rng(data.draw(seeds())).standard_normal((min(3, n), n))
    lowered = schur_complement(H, R)
    assert np.isfinite(lowered).all()
    size = factor_bound(n, F64) * 1e8 * np.linalg.norm(H, 2)  # rounding over the floor, 1e-8
    if np.linalg.eigvalsh(H)[0] > -1e-12 * np.linalg.norm(H, 2):
        assert np.linalg.eigvalsh(lowered)[0] >= -size
    assert np.linalg.eigvalsh(H - lowered)[0] >= -size


@pytest.mark.parametrize("rows", ["zero", "twice the same"])
def test_schur_complement_of_dependent_rows(rows):
    rng = np.random.default_rng(331)
    z = rng.standard_normal((40, 12))
    H = z.T @ z / 40
    R = rng.standard_normal((2, 12))
    R[1] = 0.0 if rows == "zero" else R[0]
    alone = schur_complement(H, R[:1])
    assert relative_difference(schur_complement(H, R), alone) < 1e-8


def test_schur_complement_of_no_rows_is_h():
    H = np.diag([3.0, 1.0])
    np.testing.assert_array_equal(schur_complement(H, np.zeros((0, 2))), H)
