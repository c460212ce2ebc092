"""Joining by merges is joining by scores, which is how SentencePiece joins."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE

from lrc.convert.gguf.sentencepiece import merges
from lrc.convert.gguf.vocabulary import BYTE, NORMAL, Vocabulary
from lrc.errors import FormatError


def vocabulary(scores: Mapping[str, float], **more: Any) -> Vocabulary:
    own = {"tokens": list(scores), "scores": list(scores.values()), **more}
    return Vocabulary.read({f"tokenizer.ggml.{key}": value for key, value in own.items()})


def joined(text: str, scores: Mapping[str, float]) -> list[str]:
    """Join the neighbours whose join has the highest score, the leftmost first, one at a time."""
    parts = list(text)
    while True:
        pairs = [a + b for a, b in itertools.pairwise(parts)]
        best = max((p for p in pairs if p in scores), key=scores.__getitem__, default=None)
        if best is None:
            return parts
        at = pairs.index(best)
        parts[at : at + 2] = [best]


@st.composite
def scored(draw: st.DrawFn) -> dict[str, float]:
    """Tokens of a, b and c, each longer one the join of two others, in any order of scores."""
    tokens = ["a", "b", "c"]
    for _ in range(draw(st.integers(2, 8))):
        left, right = draw(st.sampled_from(tokens)), draw(st.sampled_from(tokens))
        if left + right not in tokens and len(left + right) < 7:
            tokens.append(left + right)
    return {token: -float(i) for i, token in enumerate(draw(st.permutations(tokens)))}


@given(scores=scored(), text=st.text("abc", max_size=14))
def test_merges_join_as_scores_do(scores: dict[str, float], text: str) -> None:
    found = [(left, right) for left, right in merges(vocabulary(scores))]
    tokenizer = Tokenizer(BPE(vocab={t: i for i, t in enumerate(scores)}, merges=found))
    assert tokenizer.encode(text).tokens == joined(text, scores)


def test_bytes_and_special_tokens_are_not_joined() -> None:
    kinds = [NORMAL] * 3 + [BYTE]
    scores = {"<0x": 0.0, "41>": -1.0, "x": -2.0, "<0x41>": -3.0}
    assert merges(vocabulary(scores, token_type=kinds)) == []


def test_merges_of_the_file_come_first() -> None:
    scores = dict.fromkeys(("a", "b", "c", "ab", "bc"), -1000.0)
    assert merges(vocabulary(scores, merges=["b c", "a b"])) == [["b", "c"], ["a", "b"]]
    with pytest.raises(FormatError, match="one score"):
        merges(vocabulary(scores))
