"""Intervals over windows: determinism, coverage, pairing."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from lrc import bootstrap
from lrc.bootstrap import interval, resampled_means

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
def test_coverage_is_near_the_level(count: int) -> None:
    """95 % of 400 draws, within four standard errors of that count."""
    rng = np.random.default_rng(1409)
    covered = 0
    for _ in range(400):
        low, high = mean_interval(rng.standard_normal(count))
        covered += low <= 0 <= high
    assert 0.90 <= covered / 400 <= 0.99


def test_the_interval_narrows_like_a_mean() -> None:
    x = np.random.default_rng(733).standard_normal(1600)
    few, many = (np.diff(mean_interval(part))[0] for part in (x[:100], x))
    assert 3 < few / many < 5.5
