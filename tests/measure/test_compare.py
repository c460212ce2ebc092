"""Two models on the same windows: intervals of one evaluation, and the paired difference."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

import lrc
from lrc.errors import SpecError
from lrc.measure.evaluate import comparison, perplexity
from lrc.measure.scoring import Scores, score_windows

WINDOWS = np.random.default_rng(151).integers(0, 48, (12, 18))


class Table:
    """A model whose logits depend on the last token alone."""

    def __init__(self, logits: np.ndarray) -> None:
        self.logits = logits.astype(np.float32)

    def hidden(self, ids: np.ndarray) -> np.ndarray:
        return np.asarray(ids, np.float32)[..., None]

    def head(self, h: np.ndarray) -> np.ndarray:
        return self.logits[h[..., 0].astype(int)]


ORIGINAL = np.random.default_rng(211).normal(0, 2, (48, 48))


def near(seed: int, distance: float) -> Table:
    """The original with noise of a given size in its logits."""
    noise = np.random.default_rng(seed).normal(0, distance, ORIGINAL.shape)
    return Table(ORIGINAL + noise)


def test_figures_and_intervals_of_an_evaluation() -> None:
    found = perplexity(near(3, 0.5), WINDOWS, against=Table(ORIGINAL))
    assert found.perplexity_ratio == pytest.approx(
        found.perplexity / found.against_perplexity, rel=1e-12
    )
    for value, ends in (
        (found.perplexity_ratio, found.perplexity_ratio_interval),
        (found.kl_divergence, found.kl_interval),
    ):
        assert ends[0] < value < ends[1]
    # Normal theory and the bootstrap agree on twelve windows, within a half.
    width = np.diff(found.kl_interval)[0] / (2 * 1.96 * found.kl_stderr)
    assert 0.7 < width < 1.5


def test_one_window_has_figures_but_no_interval() -> None:
    found = perplexity(near(3, 0.5), WINDOWS[:1], against=Table(ORIGINAL))
    assert found.perplexity_ratio > 0
    assert found.perplexity_ratio_interval is found.kl_interval is None
    both = lrc.compare(near(3, 0.5), near(4, 0.5), WINDOWS[:1], against=Table(ORIGINAL))
    assert both.kl_difference is not None
    assert both.perplexity_difference_interval is both.kl_difference_interval is None


@settings(max_examples=10)
@given(st.integers(2, 2**32 - 1), st.sampled_from([0.1, 3.0, 300.0]))
def test_a_model_differs_from_itself_by_exactly_nothing(seed: int, scale: float) -> None:
    model = near(seed, scale)
    found = lrc.compare(model, model, WINDOWS, against=Table(ORIGINAL))
    assert (found.perplexity_difference, found.kl_difference, found.perplexity_ratio) == (0, 0, 1)
    assert found.kl_difference_interval == (0, 0)
    assert found.perplexity_ratio_interval == (1, 1)


def test_a_comparison_is_the_difference_of_two_evaluations() -> None:
    a, b, original = near(5, 0.3), near(6, 0.6), Table(ORIGINAL)
    found = lrc.compare(a, b, WINDOWS, against=original)
    one, two = (perplexity(m, WINDOWS, against=original) for m in (a, b))
    assert found.perplexity_difference == one.perplexity - two.perplexity
    assert found.perplexity_ratio == pytest.approx(one.perplexity / two.perplexity, rel=1e-12)
    assert found.kl_difference == pytest.approx(one.kl_divergence - two.kl_divergence, rel=1e-9)
    assert found.windows == 12
    assert found.kl_difference_interval[1] < 0, "half the noise must show on this text"


@settings(max_examples=10)
@given(st.integers(2, 2**32 - 1))
def test_exchanging_the_models_turns_the_difference_round(seed: int) -> None:
    a, b = near(seed, 0.4), near(seed + 1, 0.4)
    one = lrc.compare(a, b, WINDOWS, against=Table(ORIGINAL))
    two = lrc.compare(b, a, WINDOWS, against=Table(ORIGINAL))
    assert one.perplexity_difference == -two.perplexity_difference
    np.testing.assert_allclose(
        one.kl_difference_interval, [-x for x in reversed(two.kl_difference_interval)], rtol=1e-9
    )
    assert one == lrc.compare(a, b, WINDOWS, against=Table(ORIGINAL), threads=2)


def test_pairing_sees_what_two_separate_figures_hide() -> None:
    """Windows of very unequal difficulty, one model always a little worse."""
    rng = np.random.default_rng(577)
    loss = rng.normal(3, 1, (20, 1)) + rng.normal(0, 0.01, (20, 8))
    worse = loss + 0.05 + rng.normal(0, 0.01, loss.shape)
    found = comparison(Scores(worse), Scores(loss))
    assert found.perplexity_ratio_interval[0] > 1.04
    spread = np.std(loss.mean(axis=1), ddof=1) / np.sqrt(20)
    assert spread > 0.1
    assert found.kl_difference is None


def test_models_that_diverge_without_bound_give_figures_not_errors() -> None:
    found = comparison(Scores(np.full((3, 4), 800.0)), Scores(np.ones((3, 4))))
    assert found.perplexity == found.perplexity_difference == found.perplexity_ratio == np.inf
    same = comparison(Scores(np.full((3, 4), 800.0)), Scores(np.full((3, 4), 800.0)))
    assert (same.perplexity_difference, same.perplexity_ratio) == (0, 1)
    assert same.perplexity_difference_interval == (0, 0)


def test_scores_of_several_models_are_those_of_each() -> None:
    a, b, original = near(5, 0.3), near(6, 0.6), Table(ORIGINAL)
    for score in score_windows([a, b], WINDOWS, against=original), score_windows([a, b], WINDOWS):
        assert len(score) == 2
    together = score_windows([a, b], WINDOWS, against=original)
    for model, found in zip((a, b), together, strict=True):
        (alone,) = score_windows([model], WINDOWS, against=original)
        for name in ("loss", "against_loss", "divergence", "same_top"):
            np.testing.assert_array_equal(getattr(found, name), getattr(alone, name))
    np.testing.assert_array_equal(together[0].first(5).loss, together[0].loss[:5])


def test_scores_of_other_windows_are_refused() -> None:
    with pytest.raises(SpecError, match="same windows"):
        comparison(Scores(np.ones((3, 4))), Scores(np.ones((2, 4))))
