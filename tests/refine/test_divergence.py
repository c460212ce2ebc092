"""Divergence from a teacher as a loss."""

from __future__ import annotations

import numpy as np
import pytest

from lrc.errors import SpecError
from lrc.measure.divergence import Prediction
from lrc.refine.divergence import LiveTeacher, StoredTeacher, top_tokens
from lrc.testing.gradients import check_slope

RNG = np.random.default_rng(4)
ROWS, VOCAB = 12, 30
THEIRS, MINE = 2 * RNG.standard_normal((2, 2, 6, VOCAB))


def live(weight: float = 1.0, scored: slice = slice(None)) -> LiveTeacher:
    return LiveTeacher(np.copy, [THEIRS], weight, scored)


def stored(k: int, weight: float = 1.0) -> StoredTeacher:
    return StoredTeacher([top_tokens(THEIRS.reshape(ROWS, VOCAB), k)], weight)


def value(loss, logits: np.ndarray, rows: slice = slice(0, ROWS)) -> tuple[float, np.ndarray]:
    return loss(0, rows, logits.reshape(-1, VOCAB).copy())


def test_it_is_the_divergence_that_is_measured() -> None:
    p, q = (Prediction(x.reshape(ROWS, VOCAB).astype(np.float32)) for x in (THEIRS, MINE))
    assert value(live(0.5), MINE)[0] == pytest.approx(0.5 * p.divergence(q).sum(), rel=1e-5)


@pytest.mark.parametrize("loss", [live(0.3), stored(1, 0.3), stored(7, 0.3), stored(VOCAB, 0.3)])
def test_its_gradient_is_the_slope(loss) -> None:
    total, g = value(loss, MINE)
    d = RNG.standard_normal((ROWS, VOCAB))
    flat = MINE.reshape(ROWS, VOCAB)
    check_slope(lambda t: value(loss, flat + t * d)[0], g, d, total + 1, "logits")
    np.testing.assert_allclose(g.sum(axis=-1), 0, atol=1e-6)


def test_stored_tokens_are_a_part_of_the_divergence() -> None:
    """More of them are more of it, and all are all of it."""
    values = [value(stored(k), MINE)[0] for k in (1, 3, 10, VOCAB)]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(value(live(), MINE)[0], rel=1e-5)


def test_rows_add_up_and_only_scored_tokens_count() -> None:
    whole = value(live(), MINE)
    parts = [value(live(), MINE.reshape(ROWS, VOCAB)[r], r) for r in (slice(0, 5), slice(5, ROWS))]
    assert sum(part[0] for part in parts) == pytest.approx(whole[0])
    np.testing.assert_allclose(np.concatenate([part[1] for part in parts]), whole[1], rtol=1e-12)
    late = value(live(scored=slice(2, None)), MINE[:, 2:], slice(0, 8))
    np.testing.assert_allclose(late[1], whole[1].reshape(2, 6, VOCAB)[:, 2:].reshape(8, VOCAB))


def test_certain_teachers_and_students_stay_finite() -> None:
    certain = np.full((2, 6, VOCAB), -1e4, np.float32)
    certain[..., 3] = 0
    for theirs in (certain, np.roll(certain, 1, -1)):
        for loss in (
            LiveTeacher(np.copy, [theirs], 1.0),
            StoredTeacher([top_tokens(theirs.reshape(ROWS, VOCAB), 4)], 1.0),
        ):
            total, g = value(loss, certain)
            assert np.isfinite(total)
            assert np.isfinite(g).all()


def test_another_vocabulary_is_refused() -> None:
    with pytest.raises(SpecError, match="vocabularies have 29 and 30"):
        live()(0, slice(0, 4), np.zeros((4, VOCAB - 1)))
