"""The shared metric of a site: rotated, damped, normalised, factored."""

from __future__ import annotations

import numpy as np
import pytest
from budget import few
from hypothesis import given
from hypothesis import strategies as st

from lrc.errors import NumericalError
from lrc.linalg import precision
from lrc.linalg.factor import block_ldl, damping_shift, factor, feedback_matrix
from lrc.linalg.incoherence import rotate_columns, rotate_moment
from lrc.linalg.lowrank import solve_left
from lrc.solvers.api import corrected_columns, decompose_at_site, metric_for
from lrc.solvers.site import site_metric
from lrc.spec import DecomposeSpec, LowRankSpec, QuantSpec
from lrc.testing.laws import quadratic_loss
from lrc.testing.strategies import degenerate_moments, second_moments, seeds, weights
from lrc.testing.tolerance import assert_within, factor_bound, relative_difference

F64 = np.float64
SIZES = st.integers(1, 20)
ROTATIONS = st.sampled_from(["none", "hadamard"])


def metric(H, cross=None, *, rotation="hadamard", damping=0.01, **more):
    cross = cross if cross is None else cross.copy()
    options = {"block_size": 8, "seed": 7013} | more
    return site_metric(H.copy(), cross, rotation=rotation, damping=damping, **options)


def damped_moment(H, found):
    """What was factored, in float64: normalised, rotated, damped."""
    scale = np.trace(H) / len(H)
    return rotate_moment(H / (scale if scale > 0 else 1.0), found.signs) + np.diag(found.shift)


@given(data=st.data(), rotation=ROTATIONS, damping=st.sampled_from([0.0, 0.01, 0.3]))
def test_the_parts_are_what_they_say(data, rotation, damping):
    H = data.draw(SIZES.flatmap(lambda n: second_moments(n, 4.0)))
    before = H.copy()
    found = metric(H, rotation=rotation, damping=damping)
    n = len(H)
    assert (found.signs is None) == (rotation == "none")
    undamped = rotate_moment(H / (np.trace(H) / n), found.signs)
    assert_within(relative_difference(found.H, undamped), factor_bound(n, np.float32), "H")
    assert np.trace(found.H) == pytest.approx(n, rel=1e-4)
    np.testing.assert_array_equal(found.shift, damping_shift(undamped, damping))
    feedback = feedback_matrix(factor(damped_moment(H, found)).cholesky, 8)
    np.testing.assert_array_equal(found.feedback, feedback)
    assert (found.damping, found.retries) == (damping, 0)
    np.testing.assert_array_equal(H, before)


@given(data=st.data(), rotation=ROTATIONS, p=st.integers(-20, 20))
def test_the_size_of_h_does_not_matter(data, rotation, p):
    H = data.draw(SIZES.flatmap(lambda n: second_moments(n, 4.0)))
    a, b = metric(H, rotation=rotation), metric(4.0**p * H, rotation=rotation)
    for name in ("H", "shift", "feedback"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@given(data=st.data(), rotation=ROTATIONS, damping=st.sampled_from([0.0, 1e-4, 0.01]))
def test_degenerate_moments_give_a_finite_metric_and_say_what_it_took(data, rotation, damping):
    H = data.draw(SIZES.flatmap(degenerate_moments))
    found = metric(H, rotation=rotation, damping=damping)
    for name in ("H", "shift", "feedback"):
        assert np.isfinite(getattr(found, name)).all(), name
    assert (found.damping > damping) == (found.retries > 0)
    assert factor(damped_moment(H, found)).retries == 0, "what retries added belongs to it"
    assert found.damping <= damping + 0.1


@given(data=st.data(), rotation=ROTATIONS, shrinkage=st.floats(0, 0.99))
def test_shrinking_adds_to_the_diagonal_of_both_moments(data, rotation, shrinkage):
    H = data.draw(SIZES.flatmap(lambda n: second_moments(n, 4.0)))
    plain = metric(H, H.copy(), rotation=rotation)
    found = metric(H, H.copy(), rotation=rotation, shrinkage=shrinkage)
    added = shrinkage * np.diag(plain.H)
    bound = factor_bound(len(H), np.float32)
    assert_within(relative_difference(found.H, plain.H + np.diag(added)), bound, "H")
    damped = 1.01 if rotation == "hadamard" else 1.0  # without rotation the level is absolute
    moved = np.diag(found.cross - plain.cross) - damped * added
    assert_within(np.abs(moved).max(), bound * np.abs(plain.H).max(), "cross")
    if shrinkage == 0:
        np.testing.assert_array_equal(found.H, plain.H)
        np.testing.assert_array_equal(found.feedback, plain.feedback)


@pytest.mark.parametrize(("codebook", "gain"), [("e8p", 0.99), ("trellis8", 0.99)])
def test_shrinking_helps_on_inputs_that_were_not_seen(codebook, gain):
    """H of three times as many tokens as channels; errors under the moment that is true."""
    rng = np.random.default_rng(7019)
    n, spec = 96, DecomposeSpec(quant=QuantSpec(codebook, 2), low_rank=LowRankSpec(0))
    errors = np.zeros(2)
    for _ in range(3):
        W = rng.standard_normal((96, n)).astype(np.float32)
        root = np.linalg.qr(rng.standard_normal((n, n)))[0] * np.arange(1, n + 1) ** -0.5
        z = rng.standard_normal((3 * n, n)) @ root.T
        for i, shrinkage in enumerate((0.0, 0.1)):
            seen = metric_for(
                z.T @ z / len(z), None, spec, site="s", block_size=8, shrinkage=shrinkage
            )
            E = W - decompose_at_site(W, seen, spec, name="w", threads=1).to_dense()
            errors[i] += np.square(E @ root).sum()
    assert errors[1] < gain * errors[0]


def test_moments_that_are_not_finite_are_refused():
    H = np.eye(3)
    H[1, 1] = np.nan
    with pytest.raises(NumericalError, match="not finite"):
        metric(H)


@given(data=st.data(), rotation=ROTATIONS, mix=st.floats(0, 1))
def test_equal_streams_ask_for_the_weights_themselves(data, rotation, mix):
    H = data.draw(SIZES.flatmap(lambda n: second_moments(n, 4.0)))
    W = data.draw(weights(3, len(H)))
    found = metric(H, H.copy(), rotation=rotation)
    columns = rotate_columns(W, found.signs).astype(np.float32)
    bound = factor_bound(len(H), F64, solve=True, cond=np.linalg.cond(damped_moment(H, found)) ** 2)
    assert_within(
        relative_difference(found.target(columns, mix), columns),
        bound + factor_bound(1, np.float32),
        "target",
    )
    assert metric(H, rotation=rotation).target(columns, mix) is columns


@few(2)
@given(data=st.data(), rotation=ROTATIONS, mix=st.floats(0, 1))
def test_the_target_mixes_in_the_damped_regression(data, rotation, mix):
    """W C H^-1 with one shift on both: here H is white, so any damping is the same share."""
    n = 8
    W, C = data.draw(weights(4, n, max_decades=0)), data.draw(second_moments(n, 2.0))
    C = C / np.abs(C).max() + np.triu(0.1 * np.ones((n, n)))  # not symmetric
    before = C.copy()
    found = metric(2.0 * np.eye(n), 2.0 * C, rotation=rotation, damping=0.25)
    expected = rotate_columns(W @ ((1 - mix) * np.eye(n) + mix * (C + 0.25 * np.eye(n)) / 1.25),
                              found.signs)  # fmt: skip
    columns = rotate_columns(W, found.signs).astype(np.float32)
    target = found.target(columns, mix)
    assert_within(
        np.linalg.norm(target - expected), factor_bound(n, np.float32) * 3 * np.linalg.norm(W)
    )
    np.testing.assert_array_equal(C, before)


@few(2)
@given(data=st.data(), seed=seeds())
def test_downdated_metric_is_what_a_later_refit_leaves(data, seed):
    n = data.draw(st.integers(4, 20))
    H = data.draw(second_moments(n, 2.0))
    rank = data.draw(st.integers(1, n // 2))
    rng = np.random.default_rng(seed)
    R = np.linalg.qr(rng.standard_normal((n, rank)))[0].T.astype(np.float32)
    B = rng.standard_normal((3, n)).astype(np.float32)
    found = metric(H)
    lowered, feedback = found.downdated(R), found.downdated_feedback(R, 8)
    assert lowered.dtype == feedback.dtype == np.float32
    assert np.isfinite(feedback).all()
    np.testing.assert_array_equal(feedback[:8, :8], 0.0)
    best = quadratic_loss(B - solve_left(B, found.H, R) @ R, found.H)
    bound = factor_bound(n, np.float32, cond=np.linalg.cond(H) ** 2)
    assert_within(
        abs(quadratic_loss(B, lowered) - best), bound * quadratic_loss(B, found.H), "loss"
    )


@few(2)
@given(data=st.data(), seed=seeds())
def test_the_rounding_loss_is_what_ldlq_loses_and_falls_when_downdated(data, seed):
    n = data.draw(st.integers(8, 20))
    H = data.draw(second_moments(n, 2.0))
    found = metric(H, damping=0.0, block_size=4)
    ldl = block_ldl(factor(damped_moment(H, found)).cholesky, 4)
    exact = np.einsum("kii->", ldl.diagonal) - (-n % 4)
    bound = factor_bound(n, F64, cond=np.linalg.cond(H))
    assert_within(abs(found.rounding_loss - exact), bound * exact, "tr(D)")
    _, U = np.linalg.eigh(found.H.astype(F64))
    losses = [found.downdated_loss(U[:, -rank:].T) for rank in (1, 2, 4)]
    assert found.rounding_loss * (1 + 1e-2) + 1e-5 * n > losses[0] > losses[1] > losses[2] > 0


@few(2)
@given(
    data=st.data(),
    rotation=ROTATIONS,
    many=st.booleans(),
    shrinkage=st.sampled_from([0.0, 0.1]),
    seed=seeds(),
)
def test_wide_sites_are_worked_on_in_float32(data, rotation, many, shrinkage, seed):
    """The same metric, target, correction and downdate, to what float32 rounds."""
    n = data.draw(st.integers(3, 20))
    H = data.draw(second_moments(n, 2.0))
    rng = np.random.default_rng(seed)
    C = H + 0.1 * np.abs(H).max() * rng.standard_normal((n, n)) / n
    W, D = rng.standard_normal((4, n)).astype(np.float32), rng.standard_normal((4, n))
    R = rng.standard_normal((2, n)).astype(np.float32)
    options = {"rotation": rotation, "shrinkage": shrinkage, "damping": 0.05}
    exact = metric(H, C, **options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "WIDE", 1)
        F32 = np.float32
        found = metric(H.astype(F32), C.astype(F32), outputs=n if many else n - 1, **options)
        assert (found.cross, found.target_factor is None) == (None, many)
        assert found.move.dtype == F32
        got = [
            found.H, found.feedback, found.target(W, 0.4, 2), found.correction(D.astype(F32), 2),
            found.downdated_feedback(R, 8), found.rounding_loss, found.downdated_loss(R),
        ]  # fmt: skip
        alone = found.without_target()
        assert (alone.has_target, alone.target(W, 0.4)) == (False, W)
    expected = [
        exact.H, exact.feedback, exact.target(W, 0.4), exact.correction(D),
        exact.downdated_feedback(R, 8), exact.rounding_loss, exact.downdated_loss(R),
    ]  # fmt: skip
    damped = damped_moment(H, exact) + np.diag(shrinkage * np.diag(exact.H))
    bound = factor_bound(n, np.float32, solve=True, cond=np.linalg.cond(damped) ** 2)
    for mine, other, scale in zip(got, expected, (1, n, 1, 1, n, 1, 1), strict=True):
        size = scale if scale > 1 else np.linalg.norm(other)
        assert_within(np.linalg.norm(np.asarray(mine) - other), bound * size)


@pytest.mark.parametrize("rotation", ["none", "hadamard"])
@pytest.mark.parametrize("aimed", [False, True])
def test_a_share_of_what_the_residual_stream_lacks_is_asked_for(rotation, aimed):
    rng = np.random.default_rng(7411)
    z = rng.standard_normal((60, 16))
    found = metric(z.T @ z / 60, rotation=rotation)
    W = rng.standard_normal((5, 16)).astype(np.float32)
    residual_gap = rng.standard_normal((60, 5)).T @ z / 60
    columns = rotate_columns(W, found.signs).astype(np.float32)
    target = columns + np.float32(0.5) if aimed else None
    base = columns if target is None else target
    whole = found.correction(residual_gap.copy())
    assert np.linalg.norm(whole) > 0.1
    for share in (0.0, 0.5, 1.0):
        asked = corrected_columns(
            W, None if target is None else target.copy(), found, residual_gap.copy(), share
        )
        np.testing.assert_allclose(asked - base, share * whole, atol=1e-6)
