"""Times of transcripts: which may come next, and how a transcript is cut at them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc.run.timestamps import STEP, Times

#: Text 0 to 9, the end 10, special 11 to 12, no times 13, times 14 to 29.
TIMES, VOCAB, ZERO = Times(never=13, end=10, latest_first=5), 30, 14


def allowed(found, logits=None):
    logits = np.zeros(VOCAB, np.float32) if logits is None else logits.astype(np.float32)
    TIMES.restrict(logits, found)
    return set(np.flatnonzero(np.isfinite(logits)).tolist())


def text_is_likelier():
    return np.where(np.arange(VOCAB) < ZERO, 9.0, 0.0)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ([], set(range(14, 20))),
        ([15], set(range(13))),
        ([15, 3], {*range(13), *range(16, 30)}),
        ([15, 3, 20], {10, 11, 12, *range(20, 30)}),
        ([15, 3, 20, 20], set(range(13))),
        ([15, 3, 20, 20, 4], {*range(13), *range(21, 30)}),
    ],
)
def test_what_may_come_next(found, expected):
    assert allowed(found, text_is_likelier()) == expected


def test_times_that_are_likely_together_win_over_one_word():
    logits = np.full(VOCAB, -9.0)
    logits[3], logits[16:] = 0.0, -1.0
    assert allowed([15, 3], logits) == set(range(16, 30))
    logits[3] = 3.0
    assert 3 in allowed([15, 3], logits)


@given(st.integers(0, 2**32 - 1))
def test_greedy_transcripts_obey_the_rules(seed):
    """Whatever the logits: it begins with a time, times do not fall, and they come in pairs."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(20):
        logits = rng.normal(0, 3, VOCAB).astype(np.float32)
        logits[[11, 12]] = -np.inf
        TIMES.restrict(logits, found)
        token = int(logits.argmax())
        if token == TIMES.end:
            break
        found.append(token)
    times = [token for token in found if token >= ZERO]
    assert found[0] in range(ZERO, ZERO + 6)
    assert times == sorted(times)
    assert 13 not in found
    runs = [
        len(list(run)) for is_time, run in itertools.groupby(found, lambda t: t >= ZERO) if is_time
    ]
    assert runs[0] == 1
    assert all(run == 2 for run in runs[1:-1])
    stretches, heard = TIMES.stretches(found, 0.32)
    assert 0 < heard <= 0.32
    said = [token for one in stretches for token in one.ids]
    assert said == [token for token in found if token < ZERO][: len(said)]
    assert all(one.begin <= one.end for one in stretches)


@pytest.mark.parametrize(
    ("ids", "expected", "heard"),
    [
        # Two whole stretches, and the begin of a third that the window cuts.
        ([14, 1, 2, 19, 19, 3, 24, 24, 4], [(0, 5, (1, 2)), (5, 10, (3,))], 10),
        # The same, the third one not begun.
        ([14, 1, 2, 19, 20, 3, 24, 24], [(0, 5, (1, 2)), (6, 10, (3,))], 10),
        # The last one ends, and nothing is said behind it.
        ([14, 1, 19, 20, 3, 24], [(0, 5, (1,)), (6, 10, (3,))], 16),
        # One alone, with and without an end.
        ([15, 1, 2, 19], [(0, 5, (1, 2))], 16),
        ([15, 1, 2], [(0, 1, (1, 2))], 16),
        ([14, 1, 2], [(0, 16, (1, 2))], 16),
        ([], [(0, 16, ())], 16),
    ],
)
def test_transcripts_are_cut_at_their_times(ids, expected, heard):
    stretches, end = TIMES.stretches(ids, 16 * STEP)
    found = [(round(one.begin / STEP), round(one.end / STEP), one.ids) for one in stretches]
    assert found == expected
    assert round(end / STEP) == heard
