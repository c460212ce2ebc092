"""The rate of a trial is the best of a parabola, and some rate where nothing pays."""

from __future__ import annotations

import numpy as np
import pytest

from lrc.refine.rate import LADDER, trial_rate


@pytest.mark.parametrize("best", [3e-5, 4.4e-4, 1.3e-3, 7e-3])
def test_the_vertex_of_a_parabola_is_found(best: float) -> None:
    def loss(rate: float) -> float:
        return 0.5 + (rate - best) ** 2

    assert trial_rate(loss, loss(0)) == pytest.approx(best, rel=1e-3)


@pytest.mark.parametrize("value", [1.0, float("inf"), float("nan")])
def test_where_nothing_pays_it_is_the_least(value: float) -> None:
    assert trial_rate(lambda rate: value, 0.5) == LADDER[-1]


def test_steps_that_go_too_far_are_passed_over() -> None:
    def loss(rate: float) -> float:
        return float("nan") if rate > 3e-3 else 0.5 + (rate - 1e-3) ** 2

    found = trial_rate(loss, loss(0))
    assert 5e-4 <= found <= 2e-3


def test_no_more_is_tried_than_shows_the_best() -> None:
    tried: list[float] = []

    def loss(rate: float) -> float:
        tried.append(rate)
        return (rate - 0.002) ** 2

    trial_rate(loss, loss(0))
    assert len(np.unique(tried)) < len(LADDER)
