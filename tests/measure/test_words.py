"""Word errors: laws of the distance, and what normalisation keeps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc.errors import SpecError
from lrc.measure.words import normalized_words, word_distance, word_errors

words = st.lists(st.sampled_from(["a", "b", "c"]), max_size=8)


def plain_distance(a, b):
    """The recursion as it is written down."""
    if not a or not b:
        return len(a) + len(b)
    return min(
        plain_distance(a[1:], b) + 1,
        plain_distance(a, b[1:]) + 1,
        plain_distance(a[1:], b[1:]) + (a[0] != b[0]),
    )


@given(words.filter(lambda w: len(w) < 6), words.filter(lambda w: len(w) < 6))
def test_distance_is_that_of_the_recursion(a, b):
    assert word_distance(a, b) == plain_distance(a, b)


@given(words, words, words)
def test_distance_is_a_metric(a, b, c):
    assert word_distance(a, a) == 0
    assert word_distance(a, b) == word_distance(b, a)
    assert word_distance(a, c) <= word_distance(a, b) + word_distance(b, c)
    assert abs(len(a) - len(b)) <= word_distance(a, b) <= max(len(a), len(b))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("...", []),
        ("  Hello,\n WORLD! ", ["hello", "world"]),
        ("It’s rock'n'roll", ["its", "rocknroll"]),
        ("state-of-the-art", ["state", "of", "the", "art"]),
        ("ＡＢＣ\u00a0１２", ["abc", "12"]),
        ("café cafe\u0301", ["café", "café"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
    ],
)
def test_normalisation(text, expected):
    assert normalized_words(text) == expected


def test_rate_is_over_all_words():
    found = word_errors(["One two three.", "four"], ["one two THREE", "five six"])
    assert (found.errors, found.words, found.rate) == (2, 4, 0.5)
    low, high = found.interval
    assert 0 <= low <= 0.5 <= high


def test_one_text_has_no_interval():
    assert word_errors(["a b"], ["a"]).interval is None


def test_texts_without_words_count_what_was_heard():
    assert word_errors(["a", "..."], ["a", "b"]).errors == 1


@pytest.mark.parametrize(("said", "heard"), [(["a"], []), ([], []), (["..."], ["a"])])
def test_what_has_no_rate_is_refused(said, heard):
    with pytest.raises(SpecError):
        word_errors(said, heard)
