"""Rank-constrained regression: optimal, whatever root of H one would have taken."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from budget import few
from hypothesis import given
from hypothesis import strategies as st

import lrc.linalg.lowrank as lowrank
from lrc.errors import SpecError
from lrc.linalg.lowrank import (
    output_gram,
    rank_constrained_regression,
    solve_left,
    solve_right,
    top_eigenvectors,
    top_output_eigenvectors,
)
from lrc.testing.laws import quadratic_loss
from lrc.testing.strategies import (
    degenerate_moments,
    problems,
    ranks,
    second_moments,
    seeds,
    spectra,
    weights,
)
from lrc.testing.tolerance import assert_within, factor_bound, relative_difference

F64 = np.float64


def roots(H):
    values, vectors = np.linalg.eigh(H)
    return scipy.linalg.cholesky(H, lower=True), (vectors * np.sqrt(values)) @ vectors.T


def slack(H, energy):
    return factor_bound(len(H), F64, solve=True, cond=np.linalg.cond(H)) * energy


@given(data=st.data())
def test_loss_is_the_tail_of_the_spectrum(data):
    A, H = data.draw(problems(max_log10_cond=6.0))
    A = A.astype(F64)
    rank = data.draw(ranks(*A.shape, least=0))
    found = rank_constrained_regression(A, H, rank)
    assert found.L.shape == (len(A), rank)
    assert found.R.shape == (rank, len(H))
    loss, energy = quadratic_loss(A - found.L @ found.R, H), quadratic_loss(A, H)
    for root in roots(H):
        squares = np.linalg.svd(A @ root, compute_uv=False) ** 2
        assert_within(abs(loss - squares[rank:].sum()), slack(H, energy), "loss against the tail")
        error = np.abs(found.energies - squares[:rank]).sum()
        assert_within(error, slack(H, energy), "captured energies")
    np.testing.assert_allclose(found.L.T @ found.L, np.eye(rank), atol=factor_bound(len(A), F64))


@given(data=st.data())
def test_no_candidate_is_better(data):
    A, H = data.draw(problems(max_log10_cond=3.0))
    rank = data.draw(ranks(*A.shape))
    found = rank_constrained_regression(A.astype(F64), H, rank)
    best = quadratic_loss(A - found.L @ found.R, H)
    rng = np.random.default_rng(data.draw(seeds()))
    limit = slack(H, quadratic_loss(A, H))
    for k in range(50):
        R = rng.standard_normal(found.R.shape)
        L = rng.standard_normal(found.L.shape)
        if k % 2:  # a neighbour of the answer
            step = 10.0 ** -rng.uniform(0, 6)
            L = found.L + step * L
            R = found.R + step * np.abs(found.R).max() * R
        else:
            L = solve_left(A, H, R)
        assert_within(best, quadratic_loss(A - L @ R, H) + limit, "best against a candidate")


@few(4)
@given(data=st.data())
def test_any_root_gives_the_same_product(data):
    A, H = data.draw(problems(max_log10_cond=3.0))
    A = A.astype(F64)
    rank = data.draw(ranks(*A.shape))
    found = rank_constrained_regression(A, H, rank)
    for root in roots(H):
        U, s, Vt = np.linalg.svd(A @ root, full_matrices=False)
        product = scipy.linalg.solve((root).T, ((U[:, :rank] * s[:rank]) @ Vt[:rank]).T).T
        gap = (s[rank - 1] - (s[rank] if rank < len(s) else 0.0)) / max(s[0], 1e-300)
        if gap > 1e-3:  # else the optimum is not unique
            bound = factor_bound(len(H), F64, solve=True, cond=np.linalg.cond(H) ** 2) / gap**2
            scale = np.linalg.norm(A) * np.sqrt(np.linalg.cond(H))
            assert_within(np.linalg.norm(found.L @ found.R - product), bound * scale, "product")


@given(data=st.data())
def test_full_rank_leaves_nothing_and_rank_zero_everything(data):
    A, H = data.draw(problems())
    full = rank_constrained_regression(A.astype(F64), H, min(A.shape))
    energy = quadratic_loss(A, H)
    assert_within(quadratic_loss(A - full.L @ full.R, H), slack(H, energy), "loss at full rank")
    none = rank_constrained_regression(A, H, 0)
    assert none.L.shape == (len(A), 0)
    assert none.R.shape == (0, len(H))
    assert none.energies.shape == (0,)


@given(data=st.data())
def test_degenerate_metrics_stay_finite_and_never_lose(data):
    A, H = data.draw(problems(degenerate=True))
    A = A.astype(F64)
    rank = data.draw(ranks(*A.shape))
    found = rank_constrained_regression(A, H, rank)
    assert np.isfinite(found.L).all()
    assert np.isfinite(found.R).all()
    bound = factor_bound(len(H), F64) * np.linalg.norm(A) ** 2 * np.linalg.norm(H, 2)
    assert_within(quadratic_loss(A - found.L @ found.R, H), quadratic_loss(A, H) + bound, "loss")


@pytest.mark.parametrize("rank", [-1, 4])
def test_a_rank_out_of_range_is_refused(rank):
    with pytest.raises(SpecError, match=f"rank={rank} of a 3 x 5"):
        rank_constrained_regression(np.ones((3, 5)), np.eye(5), rank)


@given(data=st.data())
def test_left_solve_has_no_gradient_left(data):
    A, H = data.draw(problems())
    rank = data.draw(ranks(*A.shape))
    rng = np.random.default_rng(data.draw(seeds()))
    R, other = rng.standard_normal((rank, len(H))), rng.standard_normal((len(A), rank))
    L = solve_left(A, H, R)
    gram = R @ H @ R.T
    size = np.linalg.norm(A) * np.linalg.norm(H @ R.T) + np.linalg.norm(L) * np.linalg.norm(gram)
    gradient = (A - L @ R) @ H @ R.T
    bound = factor_bound(len(H), F64, solve=True) * size
    assert_within(np.linalg.norm(gradient), bound, "(A - L R) H R^T")
    energy = quadratic_loss(A, H) + quadratic_loss(L @ R, H)
    best = quadratic_loss(A - L @ R, H)
    for rival in (other, np.zeros_like(L), L + 1e-3 * other):
        assert_within(best, quadratic_loss(A - rival @ R, H) + slack(H, energy), "loss")


@given(data=st.data())
def test_right_solve_has_no_gradient_left(data):
    m, n = data.draw(st.tuples(st.integers(1, 16), st.integers(1, 16)))
    A = data.draw(weights(m, n))
    H = data.draw(second_moments(n, 3.0))
    rank = data.draw(ranks(m, n))
    rng = np.random.default_rng(data.draw(seeds()))
    L, other = rng.standard_normal((m, rank)), rng.standard_normal((rank, n))
    R = solve_right(A, L)
    bound = factor_bound(m, F64, solve=True) * np.linalg.norm(L) ** 2
    size = np.linalg.norm(A) / np.linalg.norm(L) + np.linalg.norm(R)
    assert_within(np.linalg.norm(L.T @ (A - L @ R)), bound * size, "L^T (A - L R)")
    best = quadratic_loss(A - L @ R, H)
    energy = quadratic_loss(A, H) + quadratic_loss(L @ R, H)
    for rival in (other, np.zeros_like(R), R + 1e-3 * other):
        assert_within(best, quadratic_loss(A - L @ rival, H) + slack(H, energy), "loss under any H")


@given(data=st.data())
def test_dependent_rows_get_the_least_solution(data):
    n = data.draw(st.integers(2, 12))
    H = data.draw(second_moments(n, 2.0))
    A = data.draw(weights(4, n))
    row = np.random.default_rng(data.draw(seeds())).standard_normal((1, n))
    alone = solve_left(A, H, row)
    twice = solve_left(A, H, np.repeat(row, 2, axis=0))
    np.testing.assert_allclose(twice, np.repeat(alone / 2, 2, axis=1), rtol=1e-8, atol=1e-300)
    np.testing.assert_array_equal(solve_left(A, H, np.zeros((1, n))), np.zeros((4, 1)))
    np.testing.assert_array_equal(solve_right(A, np.zeros((4, 1))), np.zeros((1, n)))


@given(data=st.data())
def test_left_solve_under_degenerate_metrics_never_loses(data):
    n = data.draw(st.integers(1, 12))
    H = data.draw(degenerate_moments(n))
    A = data.draw(weights(3, n, max_decades=0))
    R = np.random.default_rng(data.draw(seeds())).standard_normal((min(2, n), n))
    L = solve_left(A, H, R)
    assert np.isfinite(L).all()
    size = (np.linalg.norm(A) + np.linalg.norm(L @ R)) ** 2 * np.linalg.norm(H, 2)
    limit = quadratic_loss(A, H) + factor_bound(n, F64, solve=True) * size
    assert_within(quadratic_loss(A - L @ R, H), limit, "loss against L = 0")


def test_solves_of_rank_zero():
    A, H = np.ones((3, 5)), np.eye(5)
    assert solve_left(A, H, np.zeros((0, 5))).shape == (3, 0)
    assert solve_right(A, np.zeros((3, 0))).shape == (0, 5)


@few(4)
@given(data=st.data())
def test_subspace_iteration_finds_what_the_direct_method_finds(data):
    n, rank = 90, 5
    values = np.sort(data.draw(spectra(n, 3.0)))[::-1] * 0.8 ** np.arange(n)
    V = np.linalg.qr(np.random.default_rng(data.draw(seeds())).standard_normal((n, n)))[0]
    S = (V * values) @ V.T
    direct, _ = top_eigenvectors(S, rank, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lowrank, "_DIRECT_SIZE", 50)
        found, vectors = top_eigenvectors(S, rank, 5)
        again, _ = top_eigenvectors(S, rank, 5)
    np.testing.assert_array_equal(found, again)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(rank), atol=factor_bound(n, F64))
    captured = np.einsum("ij,ij->", vectors, S @ vectors)
    np.testing.assert_allclose(captured, found.sum(), rtol=1e-10)
    np.testing.assert_allclose(found, direct, rtol=1e-6)


@given(seed=seeds())
def test_a_large_matrix_needs_no_gram_for_the_same_eigenvectors(seed):
    m, n, rank = 90, 40, 5
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((m, n)) * 0.7 ** np.arange(n)
    z = rng.standard_normal((3 * n, n)) * np.linspace(0.5, 2.0, n)
    H = z.T @ z / len(z)
    direct, U = top_output_eigenvectors(A, H, rank, 5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lowrank, "_DIRECT_SIZE", 50)
        patch.setattr(lowrank, "output_gram", None)  # the point is not to form it
        found, V = top_output_eigenvectors(A, H, rank, 5)
    np.testing.assert_allclose(found, direct, rtol=1e-6)
    np.testing.assert_allclose(V @ (V.T @ U), U, atol=1e-5)


def test_output_gram_is_symmetric_and_keeps_the_precision_it_is_given():
    rng = np.random.default_rng(93)
    A, z = rng.standard_normal((6, 9)), rng.standard_normal((30, 9))
    H = z.T @ z
    gram = output_gram(A, H)
    np.testing.assert_array_equal(gram, gram.T)
    assert_within(relative_difference(gram, A @ H @ A.T), factor_bound(9, F64))
    single = output_gram(A.astype(np.float32), H.astype(np.float32))
    assert single.dtype == F64
    assert_within(relative_difference(single, gram), factor_bound(9, np.float32))


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_no_eigenvector_of_a_tight_cluster_is_lost(rank):
    """All eigenvalues alike but one: there LAPACK's choice of a range finds too few, or none."""
    for seed in range(60):
        V = np.linalg.qr(np.random.default_rng(seed).standard_normal((16, 16)))[0]
        S = (V * np.where(np.arange(16) < 15, 1.0, 4e-4)) @ V.T
        S = 0.5 * (S + S.T)
        values, vectors = top_eigenvectors(S, rank, 5)
        np.testing.assert_allclose(values, np.ones(rank), rtol=1e-12)
        np.testing.assert_allclose(vectors.T @ vectors, np.eye(rank), atol=1e-12)
        np.testing.assert_allclose(S @ vectors, vectors, atol=1e-12)
