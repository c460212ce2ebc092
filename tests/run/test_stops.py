"""A stop string ends a text as if all of it had been there at once, however pieces cut it."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from lrc.errors import SpecError
from lrc.run.stops import StopFilter, until_stop

LETTERS = st.text("ab", max_size=14)
STOPS = st.lists(st.text("ab", min_size=1, max_size=5), max_size=3)


def cut(text, places):
    ends = sorted({min(place, len(text)) for place in places} | {len(text)})
    return [text[a:b] for a, b in zip([0, *ends], ends, strict=False)]


def before_stop(text, stops):
    """Up to the stop string that is complete first; of those the one that begins first."""
    for end in range(len(text) + 1):
        found = [text[:end].find(stop) for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: min(found)]
    return text


@given(LETTERS, STOPS, st.lists(st.integers(0, 14)))
def test_the_pieces_end_before_a_stop_string(text, stops, places):
    found = list(until_stop(cut(text, places), stops))
    whole = "".join(found)
    assert all(found)
    assert text.startswith(whole)
    assert not any(stop in whole for stop in stops)
    if not any(stop in text for stop in stops):
        assert whole == text


@given(LETTERS, STOPS)
def test_letter_by_letter_the_first_complete_one_ends_it(text, stops):
    assert "".join(until_stop(text, stops)) == before_stop(text, stops)


@given(LETTERS, STOPS, st.lists(st.integers(0, 14)))
def test_no_more_is_withheld_than_may_begin_a_stop_string(text, stops, places):
    filtered, seen, told = StopFilter(stops), "", ""
    for piece in cut(text, places):
        seen, told = seen + piece, told + filtered.push(piece)
        if filtered.stopped:
            break
        rest = seen[len(told) :]
        assert not rest or any(stop.startswith(rest) for stop in stops)


def test_nothing_is_read_beyond_a_stop_string():
    pieces = iter(["one ", "two", " three"])
    assert list(until_stop(pieces, ["wo"])) == ["one ", "t"]
    assert next(pieces) == " three"


def test_an_empty_stop_string_is_refused_at_once():
    with pytest.raises(SpecError, match="empty"):
        until_stop([], ["x", ""])
