"""What L R alone and L R over Q minimise: the closed form of each statistic, and the steps."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc.errors import SpecError
from lrc.recipes import ALONE, OVER_CODES, RECIPES, with_recipe
from lrc.solvers.api import decompose
from lrc.spec import STATISTICS, CompressSpec, DecomposeSpec, LowRankSpec, QuantSpec
from lrc.testing.laws import quadratic_loss
from lrc.testing.tolerance import assert_within, factor_bound

F32 = np.float32


def inputs(rng, n):
    """Second moment and magnitudes of correlated inputs of several sizes."""
    z = rng.standard_normal((4 * n, n)) @ rng.standard_normal((n, n)) * np.geomspace(4, 0.2, n)
    return z.T @ z / len(z), np.abs(z).mean(0)


def metric_of(statistic, H, magnitudes):
    """S of tr(E S E^T), written down again."""
    return {
        "moment": H,
        "rms": np.diag(np.diag(H)),
        "magnitude": np.diag(magnitudes),
        "magnitude-squared": np.diag(magnitudes**2),
        "identity": np.eye(len(H)),
        "fisher": np.diag(importances_of(magnitudes)),
        "fisher-two-sided": np.diag(importances_of(magnitudes)),
    }[statistic]


def importances_of(magnitudes):
    """Some Fisher information of columns, unlike all that is known of inputs."""
    return magnitudes[::-1] ** 3


def known(magnitudes):
    """What the statistics look at beside H."""
    return {"magnitudes": magnitudes, "importances": importances_of(magnitudes)}


def published(W, S, rank):
    """Whiten, cut the singular values, go back: W_r = svd_r(W S^(1/2)) S^(-1/2)."""
    root = np.linalg.cholesky(S)
    U, s, Vt = np.linalg.svd(W @ root, full_matrices=False)
    return (U[:, :rank] * s[:rank]) @ np.linalg.solve(root.T, Vt[:rank].T).T


@pytest.mark.parametrize("rotation", ["none", "hadamard"])
@pytest.mark.parametrize("statistic", STATISTICS)
@given(seed=st.integers(0, 10**6), m=st.integers(4, 24), n=st.integers(4, 24))
def test_low_rank_alone_is_the_published_solution(statistic, rotation, seed, m, n):
    rng = np.random.default_rng(seed)
    W, (H, magnitudes), rank = rng.standard_normal((m, n)).astype(F32), inputs(rng, n), 2
    spec = DecomposeSpec(
        recipe="low-rank",
        statistic=statistic,
        rotation=rotation,
        low_rank=LowRankSpec(rank, factor_bits=16),
    )
    found = decompose(W, H, spec, **known(magnitudes), threads=1)
    S = metric_of(statistic, H, magnitudes)
    best = quadratic_loss(W - published(W.astype(np.float64), S, rank), S)
    ours = quadratic_loss(W - found.to_dense(), S)
    size = quadratic_loss(W, S)
    slack = factor_bound(max(m, n), F32) * size + half_precision(size)
    assert_within(ours, best + slack, "loss against the published solution")
    assert_within(best, ours + slack, "the published solution is the best")


def half_precision(size):
    """What float16 factors may add: each of L and R is off by its rounding."""
    return 4 * float(np.finfo(np.float16).eps) * size


@given(seed=st.integers(0, 10**6))
def test_a_diagonal_statistic_is_the_moment_of_inputs_that_are_not_correlated(seed):
    rng = np.random.default_rng(seed)
    W, d = rng.standard_normal((12, 16)).astype(F32), np.geomspace(9, 0.1, 16)
    low_rank = LowRankSpec(3, factor_bits=16)
    whole, part = (
        decompose(W, np.diag(d), DecomposeSpec("low-rank", low_rank=low_rank, statistic=name))
        for name in ("moment", "rms")
    )
    np.testing.assert_array_equal(whole.to_dense(), part.to_dense())


def test_magnitudes_have_to_be_given_and_to_fit():
    W, spec = np.ones((3, 4), F32), DecomposeSpec("low-rank", statistic="magnitude")
    spec = dataclasses.replace(spec, low_rank=LowRankSpec(1))
    with pytest.raises(SpecError, match="needs the mean magnitude of each input"):
        decompose(W, None, spec)
    with pytest.raises(SpecError, match="expected 4 real numbers"):
        decompose(W, None, spec, magnitudes=np.ones(3))
    with pytest.raises(SpecError, match="recipe caldera weighs errors by the second moment"):
        DecomposeSpec("caldera", statistic="rms")


def test_importances_have_to_be_given():
    spec = DecomposeSpec("low-rank", statistic="fisher", low_rank=LowRankSpec(1))
    with pytest.raises(SpecError, match="needs the Fisher information of W's columns"):
        decompose(np.ones((3, 4), F32), None, spec)


@given(seed=st.integers(0, 10**6), m=st.integers(4, 24), n=st.integers(4, 24))
def test_rows_and_columns_may_be_weighed_both(seed, m, n):
    """LQ-LoRA: D_r^-1 svd_r(D_r W D_c) D_c^-1 with diagonals D."""
    rng = np.random.default_rng(seed)
    W, rank = rng.standard_normal((m, n)).astype(F32), 2
    rows, columns = (np.exp(rng.standard_normal(k)) for k in (m, n))
    spec = DecomposeSpec(
        recipe="low-rank",
        statistic="fisher-two-sided",
        rotation="none",
        low_rank=LowRankSpec(rank, factor_bits=16),
    )
    found = decompose(W, None, spec, importances=columns, outputs=np.diag(rows), threads=1)
    scaled = np.sqrt(rows)[:, None] * W * np.sqrt(columns)
    s = np.linalg.svd(scaled, compute_uv=False)
    best = np.square(s[rank:]).sum()
    ours = np.square(np.sqrt(rows)[:, None] * (W - found.to_dense()) * np.sqrt(columns)).sum()
    slack = factor_bound(max(m, n), F32) * np.square(s).sum() + half_precision(np.square(s).sum())
    assert_within(abs(ours - best), slack, "loss against the published solution")


@pytest.mark.parametrize("rotation", ["none", "hadamard"])
@given(seed=st.integers(0, 10**6), m=st.integers(4, 24), n=st.integers(4, 24))
def test_outputs_may_be_weighed_by_a_moment_of_theirs(rotation, seed, m, n):
    """GFWSVD: A^(-1/2) svd_r(A^(1/2) W H^(1/2)) H^(-1/2), whatever the roots of A and H are."""
    rng = np.random.default_rng(seed)
    W, rank = rng.standard_normal((m, n)).astype(F32), 2
    (H, _), (A, _) = inputs(rng, n), inputs(rng, m)
    spec = DecomposeSpec(
        recipe="low-rank", rotation=rotation, low_rank=LowRankSpec(rank, factor_bits=16)
    )
    E = W - decompose(W, H, spec, outputs=A, threads=1).to_dense()
    roots = [np.linalg.cholesky(of) for of in (A, H)]
    energies = np.square(np.linalg.svd(roots[0].T @ W @ roots[1], compute_uv=False))
    ours = np.trace(A @ E @ H @ E.T)
    slack = factor_bound(max(m, n), F32) * energies.sum() + half_precision(energies.sum())
    assert_within(abs(ours - energies[rank:].sum()), slack, "loss against the published solution")


@pytest.mark.parametrize("statistic", STATISTICS)
def test_dead_inputs_leave_finite_weights(statistic):
    rng = np.random.default_rng(7711)
    W, (H, magnitudes) = rng.standard_normal((8, 12)).astype(F32), inputs(rng, 12)
    H[:, 3] = H[3] = magnitudes[3] = 0.0
    low_rank = LowRankSpec(2, factor_bits=16)
    spec = DecomposeSpec("low-rank", low_rank=low_rank, statistic=statistic)
    for moment, sizes in ((H, magnitudes), (0 * H, 0 * magnitudes)):
        assert np.isfinite(decompose(W, moment, spec, **known(sizes)).to_dense()).all()


# Q and L R


def over_codes(**changes):
    base = {
        "recipe": "corrected",
        "quant": QuantSpec("uniform", 3),
        "low_rank": LowRankSpec(2, factor_bits=16),
        "rotation": "none",
        "iterations": 1,
    }
    return DecomposeSpec(**(base | changes))


@pytest.mark.parametrize("statistic", STATISTICS)
def test_l_r_of_the_error_is_the_best_of_its_rank(statistic):
    rng = np.random.default_rng(7717)
    W, (H, magnitudes) = rng.standard_normal((16, 20)).astype(F32), inputs(rng, 20)
    spec = over_codes(rounding="nearest", statistic=statistic)
    found = decompose(W, H, spec, **known(magnitudes), threads=1)
    plain = decompose(
        W, H, dataclasses.replace(spec, recipe="round-to-nearest", statistic="moment")
    )
    S, error = metric_of(statistic, H, magnitudes), W - plain.to_dense()
    best = quadratic_loss(error - published(error.astype(np.float64), S, 2), S)
    ours = quadratic_loss(W - found.to_dense(), S)
    assert_within(abs(ours - best), half_precision(quadratic_loss(error, S)), "loss of Q + L R")


@given(seed=st.integers(0, 10**6))
def test_more_rounds_are_never_worse_in_the_metric_of_the_recipe(seed):
    rng = np.random.default_rng(seed)
    W, (H, magnitudes) = rng.standard_normal((12, 16)).astype(F32), inputs(rng, 16)
    for first in ("codes", "factors"):
        spec = over_codes(first=first, rounding="nearest", statistic="magnitude")
        S = metric_of("magnitude", H, magnitudes)
        losses = [
            quadratic_loss(
                W - decompose(W, H, each, magnitudes=magnitudes, threads=1).to_dense(), S
            )
            for each in (spec, dataclasses.replace(spec, iterations=6))
        ]
        assert_within(losses[1], losses[0] + half_precision(losses[0]), first)


def test_factors_first_leave_codes_a_smaller_target():
    rng = np.random.default_rng(7723)
    strong = 20 * np.outer(rng.standard_normal(32), rng.standard_normal(32))
    W = (strong + rng.standard_normal((32, 32))).astype(F32)
    low_rank = LowRankSpec(1, factor_bits=16)
    codes, factors = (
        decompose(W, None, over_codes(first=first, rounding="nearest", low_rank=low_rank))
        for first in ("codes", "factors")
    )
    assert factors.relative_error < 0.5 * codes.relative_error


def test_feedback_is_no_worse_than_nearest_under_the_moment():
    rng = np.random.default_rng(7727)
    ratios = []
    for _ in range(8):
        W, (H, _) = rng.standard_normal((24, 32)).astype(F32), inputs(rng, 32)
        errors = [
            decompose(W, H, over_codes(rounding=rounding)).relative_error
            for rounding in ("feedback", "nearest")
        ]
        ratios.append(errors[0] / errors[1])
    assert np.mean(ratios) < 0.9


# Names


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_makes_a_matrix_of_its_structure(name):
    spec = with_recipe(name, CompressSpec()).decompose
    if name in ALONE:
        spec = dataclasses.replace(spec, low_rank=dataclasses.replace(spec.low_rank, keep=0.5))
    rng = np.random.default_rng(7729)
    W, (H, magnitudes) = rng.standard_normal((64, 96)).astype(F32), inputs(rng, 96)
    found = decompose(W, H, spec, **known(magnitudes), threads=1)
    kinds = [part.kind for part in found.matrix.parts]
    if name in ALONE:
        assert kinds == ["low_rank"]
        assert found.rank == int(0.5 * 64 * 96 / 160)
    else:
        assert name in OVER_CODES
        assert kinds[0] == "codes"
    assert found.relative_error < 1.0


def test_a_recipe_beats_what_looks_at_less():
    """On average over matrices: the whole moment, its diagonal, nothing."""
    rng = np.random.default_rng(7741)
    errors = {name: [] for name in ("svd-llm", "asvd", "svd")}
    for _ in range(6):
        W, (H, magnitudes) = rng.standard_normal((32, 48)).astype(F32), inputs(rng, 48)
        for name, found in errors.items():
            spec = with_recipe(name, CompressSpec()).decompose
            spec = dataclasses.replace(spec, low_rank=dataclasses.replace(spec.low_rank, keep=0.5))
            found.append(decompose(W, H, spec, magnitudes=magnitudes, threads=1).relative_error)
    assert np.mean(errors["svd-llm"]) < np.mean(errors["asvd"]) < np.mean(errors["svd"])


def test_an_unknown_recipe_is_refused_by_name():
    with pytest.raises(SpecError, match=r"recipe 'best' is unknown; use one of caldera"):
        with_recipe("best", CompressSpec())


def test_the_readme_names_every_recipe_and_no_other():
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    section = text.split("## Methods of the literature")[1].split("\n## ")[0]
    named = set(re.findall(r"`([a-z0-9]+(?:-[a-z0-9]+)*)`", section))
    assert named == set(RECIPES)
