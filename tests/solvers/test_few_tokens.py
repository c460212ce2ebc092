"""The metric of few tokens is that of their second moment, which it never makes."""

from __future__ import annotations

import numpy as np
import pytest
from budget import few
from hypothesis import given
from hypothesis import strategies as st

from lrc.errors import CalibrationError, NumericalError, SpecError
from lrc.linalg.diagonal_plus_low_rank import DiagonalPlusLowRank
from lrc.linalg.factor import schur_complement
from lrc.linalg.incoherence import rotate_columns
from lrc.linalg.row_moment import RowMoment, rows_are_few
from lrc.linalg.second_moment import SecondMoment
from lrc.linalg.token_rows import token_rows
from lrc.solvers.api import corrected_columns, decompose_at_site, metric_for, target_columns
from lrc.spec import DecomposeSpec, LowRankSpec, QuantSpec
from lrc.testing.strategies import seeds
from lrc.testing.tolerance import assert_within, eps, factor_bound, relative_difference

F32, F64 = np.float32, np.float64
SPECS = st.builds(
    DecomposeSpec,
    rotation=st.sampled_from(["none", "hadamard"]),
    damping=st.sampled_from([0.01, 0.1]),
)


def streams(tokens, n, seed, d=5):
    rng = np.random.default_rng(seed)
    z = (rng.standard_normal((tokens, n)) * np.exp(0.5 * rng.standard_normal(n))).astype(F32)
    x = (z + 0.2 * rng.standard_normal((tokens, n))).astype(F32)
    return z, x, rng.standard_normal((tokens, d)).astype(F32)


def moments_of(tokens, n, seed, *, others=0):
    """The same tokens as rows and as products; of an expert where there are others, too."""
    z, x, gap = streams(tokens, n, seed)
    weights = np.random.default_rng(seed).uniform(0.2, 1, tokens).astype(F32)
    rows, products = (kind(n, cross=True, residual_gap=5) for kind in (RowMoment, SecondMoment))
    for part in np.array_split(np.arange(tokens), 2):
        found = token_rows(z[part], x[part], gap[part], weights[part])
        rows.add(found)
        products.add(found.moments())
    if others:
        found = token_rows(*streams(others, n, seed + 1)[:2])
        rows.shrink_to([found])
        products.shrink_to(found.moments())
    return rows, products


def metrics_of(rows, products, spec, shrinkage):
    return tuple(
        metric_for(m.matrix(), m.cross(), spec, site="s", block_size=2, shrinkage=shrinkage)
        for m in (rows, products)
    )


def whole(H):
    return H if isinstance(H, np.ndarray) else np.eye(len(H), dtype=F32) @ H


@given(st.integers(0, 6), st.integers(1, 20), st.integers(0, 6), seeds())
def test_moments_are_those_of_the_products(tokens, n, others, seed):
    rows, products = moments_of(tokens, n, seed, others=others)
    for name in ("rows", "dropped", "effective_rows", "borrowed"):
        assert getattr(rows, name) == pytest.approx(getattr(products, name), rel=1e-6), name
    if tokens + others == 0:
        with pytest.raises(CalibrationError):
            rows.matrix()
        return
    found, H = rows.matrix(), products.matrix()
    z = found.rows
    bound = factor_bound(max(len(z), n), F32)
    assert_within(relative_difference(whole(found), H), bound, "H")
    assert_within(relative_difference(rows.cross().T @ z, products.cross()), bound, "C")
    gap, expected = rows.residual_gap().T @ z, products.residual_gap()
    reach = np.linalg.norm(rows.residual_gap()) * np.linalg.norm(z)
    assert_within(np.linalg.norm(gap - expected), bound * reach, "D")


@few(2)
@given(SPECS, st.integers(2, 24), st.sampled_from([0.0, 0.3]), seeds())
def test_the_metric_is_that_of_the_products(spec, n, shrinkage, seed):
    rows, products = moments_of(max(n // 4, 1), n, seed, others=2)
    gaps = rows.residual_gap(), products.residual_gap()
    found, dense = metrics_of(rows, products, spec, shrinkage)
    damped = dense.H + np.diag(dense.shift)
    cond = np.linalg.cond(damped)
    bound = factor_bound(n, F32, solve=True, cond=cond)
    twice = factor_bound(n, F32, solve=True, cond=cond**2)
    assert (found.retries, found.damping) == (dense.retries, dense.damping)
    assert found.scale == pytest.approx(dense.scale, rel=1e-5)
    assert_within(relative_difference(whole(found.H), dense.H), bound, "H")
    np.testing.assert_allclose(found.shift, dense.shift, rtol=1e-4)
    for b in (2, 4):
        U, expected = found.feedback_for(b).block(slice(0, n)), dense.feedback_for(b)
        assert_within(np.linalg.norm(U - expected), bound * n, f"U of blocks of {b}")
    assert found.rounding_loss == pytest.approx(dense.rounding_loss, rel=bound)
    W = np.random.default_rng(seed).standard_normal((5, n)).astype(F32)
    targets = [target_columns(W, metric, 0.4) for metric in (found, dense)]
    assert_within(relative_difference(*targets), twice, "target")
    asked = [
        corrected_columns(W, target, metric, gap, 0.5)
        for target, metric, gap in zip(targets, (found, dense), gaps, strict=True)
    ]
    assert_within(relative_difference(*asked), twice, "corrected target")
    alone = found.without_target()
    assert (alone.lack, target_columns(W, alone, 0.4)) == (None, None)


@few(2)
@given(SPECS, st.integers(4, 24), seeds())
def test_the_downdated_metric_is_that_of_the_products(spec, n, seed):
    found, dense = metrics_of(*moments_of(max(n // 4, 1), n, seed), spec, 0.3)
    R = np.random.default_rng(seed).standard_normal((2, n)).astype(F32)
    expected = dense.downdated(R)
    size = np.linalg.norm(dense.H)
    assert_within(np.linalg.norm(whole(found.downdated(R)) - expected), 1e-5 * size, "H'")
    loss = dense.downdated_loss(R)
    lowered = schur_complement(dense.H.astype(F64) + np.diag(dense.shift + n * eps(F32)), R)
    lowered += np.diag(np.maximum(np.diag(lowered), 0) * spec.damping + 1e-6)
    bound = factor_bound(n, F32, solve=True, cond=np.linalg.cond(lowered) ** 2)
    assert found.downdated_loss(R) == pytest.approx(loss, rel=bound)
    U = found.downdated_feedback(R, 2).block(slice(0, n))
    np.testing.assert_allclose(U, dense.downdated_feedback(R, 2), atol=bound * n)


@pytest.mark.parametrize("codebook", ["e8p", "trellis8", "uniform"])
@pytest.mark.parametrize("rank", [0, 4, "auto"])
def test_a_matrix_is_decomposed_as_well(codebook, rank):
    """Codes may differ where a choice is close, errors hardly."""
    spec = DecomposeSpec(quant=QuantSpec(codebook, 2), low_rank=LowRankSpec(rank))
    W = np.random.default_rng(7).standard_normal((48, 64)).astype(F32)
    found = []
    for metric in metrics_of(*moments_of(16, 64, 3), spec, 0.4):
        target = target_columns(W, metric, 0.4)
        found.append(
            decompose_at_site(W, metric, spec, name="w", regression_target=target, threads=1)
        )
    mine, other = found
    assert mine.relative_error == pytest.approx(other.relative_error, rel=0.05)
    assert mine.relative_error < 0.5
    assert mine.rank == other.rank
    assert any("rows of 16 tokens, few for 64 inputs" in note for note in mine.notes)
    assert not any("rows of" in note for note in other.notes)


def test_without_damping_a_little_is_added():
    """Rows alone span too little: what retries added is on record."""
    z, _, _ = streams(3, 12, 5)
    moment = RowMoment(12)
    moment.add(token_rows(z))
    spec = DecomposeSpec(damping=0.0)
    found = metric_for(moment.matrix(), None, spec, site="s", block_size=2)
    assert found.retries == 1
    assert found.damping == pytest.approx(1e-6)
    assert np.isfinite(found.feedback.gains).all()
    assert found.target(z, 0.4) is z


def test_inputs_that_are_never_active_are_no_harm():
    z, x, _ = streams(4, 16, 9)
    z[:, 3] = x[:, 3] = 0.0
    moment = RowMoment(16, cross=True)
    moment.add(token_rows(z, x))
    for rotation in ("none", "hadamard"):
        spec = DecomposeSpec(rotation=rotation)
        found = metric_for(moment.matrix(), moment.cross(), spec, site="s", block_size=2)
        assert found.retries == 0
        assert np.isfinite(found.target(z, 1.0)).all()


def test_what_is_no_second_moment_is_refused():
    H = DiagonalPlusLowRank(np.zeros(4), np.ones((1, 4), F32), -np.ones(1, F32))
    with pytest.raises(NumericalError, match="not positive definite"):
        metric_for(H, None, DecomposeSpec(), site="s", block_size=2)


def test_misuse_is_refused():
    z, x, gap = streams(3, 4, 88)
    with pytest.raises(SpecError, match="width 4 added to moment of 5"):
        RowMoment(5).add(token_rows(z))
    with pytest.raises(SpecError, match="both streams"):
        RowMoment(4, cross=True).add(token_rows(z))
    with pytest.raises(SpecError, match="streams' difference"):
        RowMoment(4, residual_gap=5).add(token_rows(z))
    moment = RowMoment(4)
    moment.add(token_rows(z, x, gap))
    with pytest.raises(SpecError, match="one stream"):
        moment.cross()
    two = RowMoment(4, cross=True)
    two.add(token_rows(z, x))
    with pytest.raises(SpecError, match="two-stream"):
        two.shrink_to([token_rows(z)])


def test_the_rule_is_by_size_alone():
    assert rows_are_few(2048, 8192)
    assert not rows_are_few(2049, 8192)
    assert not rows_are_few(1, 8191)


def test_rotation_keeps_products():
    rows, products = moments_of(5, 24, 13)
    spec = DecomposeSpec()
    found, _ = metrics_of(rows, products, spec, 0.0)
    W = np.random.default_rng(1).standard_normal((3, 24)).astype(F32)
    turned = rotate_columns(W, found.signs)
    assert_within(
        relative_difference(found.scale * (turned @ found.H) @ turned.T, W @ rows.matrix() @ W.T),
        factor_bound(24, F32),
    )
