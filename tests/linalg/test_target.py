"""The regression target repeats the original's outputs from the student's inputs."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lrc.linalg.factor import factor
from lrc.linalg.target import regression_target, residual_correction
from lrc.testing.strategies import second_moments, seeds, weights
from lrc.testing.tolerance import assert_within, factor_bound, relative_difference

MIXES = st.floats(0.0, 1.0)


@given(data=st.data(), mix=MIXES)
def test_equal_streams_ask_for_w_itself(data, mix):
    m, n = data.draw(st.tuples(st.integers(1, 8), st.integers(1, 12)))
    W, H = data.draw(weights(m, n)), data.draw(second_moments(n, 4.0))
    before = W.copy(), H.copy()
    target = regression_target(W, H, factor(H).cholesky, mix)
    assert target.dtype == np.float32
    bound = factor_bound(n, np.float64, solve=True, cond=np.linalg.cond(H) ** 2)
    assert_within(relative_difference(target, W), bound + factor_bound(1, np.float32))
    np.testing.assert_array_equal(W, before[0])
    np.testing.assert_array_equal(H, before[1])


def test_no_mix_is_exactly_w():
    W = np.ones((2, 3), np.float32)
    C = np.full((3, 3), np.nan)
    assert regression_target(W, C, np.eye(3), 0.0) is W


@given(seed=seeds())
def test_full_mix_minimises_the_output_error(seed):
    rng = np.random.default_rng(seed)
    tokens, n, m = 60, 7, 4
    x = rng.standard_normal((tokens, n))
    z = x @ rng.standard_normal((n, n)) + 0.3 * rng.standard_normal((tokens, n))
    W = rng.standard_normal((m, n)).astype(np.float32)
    H, C = z.T @ z / tokens, x.T @ z / tokens
    B = regression_target(W, C, factor(H).cholesky, 1.0)
    least = np.linalg.lstsq(z, x @ W.T.astype(np.float64), rcond=None)[0].T
    cond = np.linalg.cond(H)
    bound = factor_bound(n, np.float64, solve=True, cond=cond**2) + factor_bound(n, np.float32)
    assert_within(relative_difference(B, least), bound, "B against least squares")

    def loss(M):
        return np.square(x @ W.T - z @ M.T).sum()

    for step in (1e-1, 1e-2):
        assert loss(B) < loss(B + step * np.abs(B).max() * rng.standard_normal(B.shape))
    assert loss(B) <= loss(W)


@given(data=st.data(), mix=MIXES)
def test_the_target_is_linear_in_the_mix(data, mix):
    n = 6
    W, H = data.draw(weights(3, n)), data.draw(second_moments(n, 2.0))
    C = data.draw(second_moments(n, 2.0))
    cholesky = factor(H).cholesky
    full = regression_target(W, C, cholesky, 1.0)
    mixed = regression_target(W, C, cholesky, mix)
    scale = np.linalg.norm(W) + np.linalg.norm(full)
    error = np.linalg.norm(mixed - ((1 - mix) * W + mix * full.astype(np.float64)))
    assert_within(error, factor_bound(n, np.float32) * scale, "mixture")


@given(seed=seeds(), ridge=st.sampled_from([1e-3, 0.1, 1.0]))
def test_the_correction_is_the_ridge_regression_of_the_gap(seed, ridge):
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((50, 6)) @ np.diag(np.geomspace(2, 0.2, 6))
    d = z @ rng.standard_normal((6, 4)) + 0.1 * rng.standard_normal((50, 4))
    H, D = z.T @ z / 50, d.T @ z / 50
    before = H.copy()
    B = residual_correction(D.copy(), H, ridge)
    weight = np.sqrt(50 * ridge * np.diag(H))
    wide = np.concatenate([z, np.diag(weight)])
    least = np.linalg.lstsq(wide, np.concatenate([d, np.zeros((6, 4))]), rcond=None)[0].T
    cond = np.linalg.cond(H)
    bound = factor_bound(6, np.float64, solve=True, cond=cond**2) + factor_bound(6, np.float32)
    assert_within(relative_difference(B, least), bound, "correction")
    assert np.square(d - z @ B.T).sum() < np.square(d).sum()
    np.testing.assert_array_equal(H, before)


def test_no_gap_asks_for_nothing_and_dead_inputs_stay_dead():
    H = np.diag([1.0, 0.0, 2.0])
    np.testing.assert_array_equal(residual_correction(np.zeros((2, 3)), H, 0.1), 0.0)
    found = residual_correction(np.array([[1.0, 0.0, 1.0]]), H, 0.1)
    assert found[0, 1] == 0.0
    np.testing.assert_allclose(found[0, [0, 2]], [1 / 1.1, 0.5 / 1.1], rtol=1e-6)
