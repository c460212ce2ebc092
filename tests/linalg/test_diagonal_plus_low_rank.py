"""Second moments of few tokens: every product and factor is that of the dense matrix."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc.linalg import diagonal_plus_low_rank as module
from lrc.linalg import factor
from lrc.linalg.diagonal_plus_low_rank import DiagonalPlusLowRank, block_ldl, regression_on_rows
from lrc.linalg.lowrank import top_eigenvectors
from lrc.linalg.norms import proxy_loss, times_metric
from lrc.linalg.running_product import running_feedback, running_product
from lrc.testing.laws import quadratic_loss
from lrc.testing.strategies import seeds
from lrc.testing.tolerance import (
    C_SOLVE,
    assert_within,
    eps,
    factor_bound,
    relative_difference,
    sum_bound,
)

F32, F64 = np.float32, np.float64
BLOCKS = st.sampled_from([1, 2, 3, 8])


@pytest.fixture(autouse=True)
def _few_columns_at_a_time(monkeypatch):
    """So that small matrices take several rounds."""
    monkeypatch.setattr(module, "_WIDTH", 8)
    monkeypatch.setattr(module, "_CHUNK_COLUMNS", 5)


def moment_of(n, k, seed):
    rng = np.random.default_rng(seed)
    rows = (rng.standard_normal((k, n)) * np.exp(rng.standard_normal(n)) / k**0.5).astype(F32)
    return DiagonalPlusLowRank(rng.uniform(0.1, 1.0, n), rows, np.ones(k, F32))


def dense(H):
    rows = H.rows.astype(F64)
    return np.diag(H.diagonal) + (rows.T * H.signs) @ rows


moments = st.builds(moment_of, st.integers(1, 24), st.integers(1, 6), seeds())


@given(H=moments, seed=seeds())
def test_products_are_those_of_the_matrix(H, seed):
    whole, n = dense(H), len(H)
    A = np.random.default_rng(seed).standard_normal((3, n))
    bound = factor_bound(n, F32)
    assert_within(relative_difference(A @ H, A @ whole), factor_bound(n, F64), "A H")
    assert_within(relative_difference(H @ A.T, whole @ A.T), factor_bound(n, F64), "H B")
    A = A.astype(F32)
    assert (A @ H).dtype == F32
    assert_within(relative_difference(times_metric(A, H), A @ whole), bound, "A H")
    loss = quadratic_loss(A, whole)
    taken = DiagonalPlusLowRank(H.diagonal, H.rows, -H.signs)
    assert_within(
        abs(proxy_loss(A, taken) - quadratic_loss(A, dense(taken))), bound * loss, "with sign -1"
    )
    assert_within(abs(proxy_loss(A, H) - loss), bound * loss, "tr(A H A^T)")
    assert_within(relative_difference(H.diag(), np.diag(whole)), bound, "diagonal")
    part = slice(n // 3, n)
    assert_within(relative_difference(H.block(part), whole[part, part]), bound, "block")


@given(H=moments, b=BLOCKS, seed=seeds())
def test_the_feedback_is_that_of_the_block_ldl(H, b, seed):
    whole, n = dense(H), len(H)
    C = factor.factor(whole).cholesky
    found, loss = block_ldl(H, b)
    bound = factor_bound(n, F32, solve=True, cond=np.linalg.cond(whole))
    U = factor.feedback_matrix(C, b)
    size = np.linalg.norm(factor.block_ldl(C, b).unit)
    assert_within(np.linalg.norm(found.block(slice(0, n)) - U), bound * size, "U")
    trace = factor.block_trace(C, b)
    assert_within(abs(loss - trace), factor_bound(n, F64, solve=True) * n * trace, "tr(D)")
    coarser = factor.coarser_feedback(U, b, 2 * b)
    got = found.coarser(2 * b)
    assert_within(np.linalg.norm(got.block(slice(0, n)) - coarser), bound * size, "coarser U")
    assert found.coarser(b) is found


@given(H=moments, seed=seeds())
def test_products_follow_errors_that_change(H, seed):
    """From the last columns to the first, as rounding does, for H and for feedback."""
    n, rng = len(H), np.random.default_rng(seed)
    error = rng.standard_normal((3, n)).astype(F32)
    feedback, _ = block_ldl(H, 2)
    U = feedback.block(slice(0, n))
    running = running_product(H, error)
    of_feedback, of_dense = running_feedback(feedback, 3), running_feedback(U, 3)
    settled = np.zeros_like(error)
    for start in reversed(range(0, n, 4)):
        at = slice(start, min(start + 4, n))
        change = rng.standard_normal(error[:, at].shape).astype(F32)
        error[:, at] += change
        running.changed(change, at)
        np.testing.assert_allclose(
            running.columns(error, at), (error @ dense(H))[:, at], rtol=1e-4, atol=1e-4 * n
        )
        got, expected = of_feedback.columns(settled, at), of_dense.columns(settled, at)
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(of_feedback.within(at), of_dense.within(at), atol=1e-6)
        settled[:, at] = change
        of_feedback.changed(change, at)


@given(H=moments, seed=seeds())
def test_regression_on_rows(H, seed):
    B = np.random.default_rng(seed).standard_normal((3, len(H.rows)))
    expected = np.linalg.solve(dense(H), (B @ H.rows).T).T
    # The last product is in float32, of terms that may cancel.
    V = H.rows.astype(F64)
    solved = np.linalg.solve(np.eye(len(V)) + (V / H.diagonal) @ V.T, B.T).T
    terms = np.linalg.norm(np.abs(solved) @ np.abs(V) / H.diagonal)
    error = np.linalg.norm(regression_on_rows(B, H) - expected)
    assert_within(error, sum_bound(len(V), F32, terms), "B V H^-1")


@given(H=moments, seed=seeds())
def test_the_schur_complement_is_that_of_the_matrix(H, seed):
    n = len(H)
    R = np.random.default_rng(seed).standard_normal((min(2, n), n))
    expected, found = factor.schur_complement(dense(H), R), module.schur_complement(H, R)
    size = np.linalg.norm(dense(H))
    assert_within(np.linalg.norm(dense(found) - expected), factor_bound(n, F32) * size, "H'")
    raised = found.with_diagonal(np.full(n, 0.05))
    U, loss = block_ldl(raised, 2)
    C = factor.factor(dense(raised)).cholesky
    bound = C_SOLVE * n * eps(F64) * np.linalg.cond(dense(raised))
    assert_within(abs(loss - factor.block_trace(C, 2)), bound * loss, "tr(D) of H'")
    whole = U.block(slice(0, n))
    bound = factor_bound(n, F32, solve=True, cond=np.linalg.cond(dense(raised)))
    unit = np.linalg.norm(factor.block_ldl(C, 2).unit)
    assert_within(
        np.linalg.norm(whole - factor.feedback_matrix(C, 2)), bound * unit, "U of H' and a ridge"
    )


def test_what_is_not_positive_definite_has_no_factor():
    H = DiagonalPlusLowRank(np.full(4, 0.1), np.ones((1, 4), F32), -np.ones(1, F32))
    with pytest.raises(np.linalg.LinAlgError):
        block_ldl(H, 1)


def test_leading_eigenvectors_span_the_rows():
    H = moment_of(300, 5, 11)
    values, U = top_eigenvectors(H, 5, seed=3)
    expected = np.linalg.eigvalsh(dense(H))[::-1][:5]
    np.testing.assert_allclose(values, expected, rtol=1e-3)
    assert_within(np.abs(U.T @ U - np.eye(5)).max(), factor_bound(300, F64), "U^T U - I")
