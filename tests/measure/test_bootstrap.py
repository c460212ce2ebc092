"""Intervals over windows: determinism, coverage, pairing."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.special import ndtri, stdtrit

from lrc.measure import bootstrap
from lrc.measure.bootstrap import interval, resampled_means

SEEDS = st.integers(2, 2**32 - 1)


def mean_interval(x: np.ndarray) -> tuple[float, float]:
    found = interval(resampled_means(x[:, None], 500)[:, 0], len(x))
    assert found is not None
    return found


@settings(max_examples=20)
@given(SEEDS, st.integers(1, 40))
def test_draws_are_repeatable_and_within_the_data(seed: int, count: int) -> None:
    x = np.random.default_rng(seed).standard_normal((count, 2))
    draws = resampled_means(x, 50)
    assert draws.shape == (50, 2)
    np.testing.assert_array_equal(draws, resampled_means(x, 50))
    assert (draws >= x.min(axis=0) - 1e-12).all()
    assert (draws <= x.max(axis=0) + 1e-12).all()


def test_many_windows_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(97).standard_normal((30, 2))
    whole = resampled_means(x, 40)
    monkeypatch.setattr(bootstrap, "_GATHERED", 150)
    parts = resampled_means(x, 40)
    np.testing.assert_array_equal(parts, whole)


@settings(max_examples=20)
@given(SEEDS)
def test_columns_are_drawn_together(seed: int) -> None:
    x = np.random.default_rng(seed).standard_normal(25)
    draws = resampled_means(np.stack([x, 3 - x], axis=1), 60)
    np.testing.assert_allclose(draws.sum(axis=1), 3, rtol=1e-12)


def test_one_window_has_no_interval() -> None:
    assert interval(np.zeros(5), 1) is None


def test_equal_windows_have_a_point_interval() -> None:
    assert mean_interval(np.full(7, 0.25)) == (0.25, 0.25)


@pytest.mark.parametrize("count", [6, 20, 80])
@pytest.mark.parametrize("level", [0.5, 0.95])
def test_the_interval_is_student_s(count: int, level: float) -> None:
    """Resampling shows normal windows of deviation 1 with sqrt((n - 1) / n): quantiles of that."""
    grid = (np.arange(400_000) + 0.5) / 400_000
    found = interval(math.sqrt((count - 1) / count) * ndtri(grid), count, level)
    t = stdtrit(count - 1, (1 + level) / 2)
    assert found == pytest.approx((-t, t), rel=1e-3)


@pytest.mark.parametrize(("count", "least"), [(6, 0.918), (20, 0.934), (80, 0.934)])
def test_coverage_is_near_the_level(count: int, least: float) -> None:
    """95 % of 3000 draws, within four standard errors of that; six windows leave a little out."""
    rng = np.random.default_rng(1409)
    covered = 0
    for _ in range(3000):
        low, high = mean_interval(rng.standard_normal(count))
        covered += low <= 0 <= high
    assert least <= covered / 3000 <= 0.966


def test_the_interval_narrows_like_a_mean() -> None:
    x = np.random.default_rng(733).standard_normal(1600)
    few, many = (np.diff(mean_interval(part))[0] for part in (x[:100], x))
    assert 3 < few / many < 5.5
