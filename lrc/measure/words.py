"""Word error rate of transcripts (Levenshtein distance over words)."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrc.errors import SpecError
from lrc.measure.bootstrap import Interval, ratio_interval

#: Marks that are taken out of a word instead of parting it: don't is one word.
_WITHIN = "'\u2019\u02bc"


@dataclass(frozen=True)
class WordErrors:
    """Errors of transcripts against what was said.

    Attributes
    ----------
    rate : float
        Errors over words of all references; above 1 where more is wrong than was said.
    interval : (low, high) or None
        Of the rate, at 95 %, from drawing texts with replacement; None with fewer than two.
    errors : int
        Words to replace, to add and to take away.
    words : int
        Of the references.
    """

    rate: float
    interval: Interval | None
    errors: int
    words: int


def normalized_words(text: str) -> list[str]:
    r"""Words of a text, as errors are counted: lower case, without punctuation.

    Compatibility forms are unified (NFKC), apostrophes are taken out, and every other character
    that is no letter, mark or digit parts words. Numbers, spellings and abbreviations stay as they
    are: such a normalisation belongs to a language.

    Examples
    --------
    >>> normalized_words("Don't panic: it's \u201c42\u201d, well-known!")
    ['dont', 'panic', 'its', '42', 'well', 'known']
    """
    folded = unicodedata.normalize("NFKC", text).lower()
    kept = (c if unicodedata.category(c)[0] in "LMN" else " " for c in folded if c not in _WITHIN)
    return "".join(kept).split()


def word_distance(reference: Sequence[str], found: Sequence[str]) -> int:
    """Fewest words to replace, to add and to take away between two texts.

    Time: the product of their lengths.

    Examples
    --------
    >>> word_distance("the cat sat".split(), "a cat sat down".split())
    2
    """
    numbers: dict[str, int] = {}
    wanted, got = (
        np.array([numbers.setdefault(word, len(numbers)) for word in words], np.int64)
        for words in (reference, found)
    )
    places = np.arange(len(got) + 1)
    row = places.copy()
    for line, word in enumerate(wanted, 1):
        best = np.minimum(row[1:] + 1, row[:-1] + (got != word))
        # A word to take away comes on top of what is left of it: a running minimum.
        row = np.minimum.accumulate(np.concatenate(([line], best)) - places) + places
    return int(row[-1])


def word_errors(references: Sequence[str], found: Sequence[str]) -> WordErrors:
    """Errors of transcripts, words normalised by `normalized_words`.

    Parameters
    ----------
    references, found : sequence of str
        What was said, and the transcript of each.

    Raises
    ------
    SpecError
        The two differ in number, or no reference has a word.
    """
    if len(references) != len(found) or not found:
        raise SpecError(f"{len(found)} transcripts of {len(references)} texts; give one for each")
    pairs = [
        (normalized_words(said), normalized_words(heard))
        for said, heard in zip(references, found, strict=True)
    ]
    counts = np.array([(word_distance(*pair), len(pair[0])) for pair in pairs], np.float64)
    errors, words = counts.sum(axis=0)
    if not words:
        raise SpecError("no reference text has a word; errors are counted against their words")
    ends = ratio_interval(counts[:, 0], counts[:, 1])
    return WordErrors(float(errors / words), ends, int(errors), int(words))
