"""Tokenizers of SentencePiece: BPE by scores (``llama``) and unigram (``t5``), with byte fallback.

Spaces are written as U+2581, and one is put before the text where ``add_space_prefix`` says so:
before each piece between special tokens, as tokenizer.json of Llama 2 does and llama.cpp, too.
Tokens that a user defined are cut out of the text first, as they stand (Kudo & Richardson, 2018).
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from lrc.convert.gguf.vocabulary import BYTE, NORMAL, UNKNOWN, USER_DEFINED, Vocabulary
from lrc.errors import FormatError

Json = dict[str, Any]
SPACE = "\u2581"


def bpe_parts(vocabulary: Vocabulary) -> Json:
    """Normalizer, model and decoder of tokenizer.json for BPE by scores.

    Raises
    ------
    FormatError
        The scores or the unknown token are missing.
    """
    prefix = vocabulary.flag("add_space_prefix", True)
    unknown = _unknown(vocabulary, 0)
    return {
        "normalizer": _normalizer(vocabulary, prefix),
        "pre_tokenizer": None,
        "decoder": _decoder(prefix),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": vocabulary.tokens[unknown],
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": bool(vocabulary.of_kind(BYTE)),
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(spelled(vocabulary))},
            "merges": merges(vocabulary),
        },
    }


def unigram_parts(vocabulary: Vocabulary) -> Json:
    """Normalizer, model and decoder of tokenizer.json for a unigram model.

    Raises
    ------
    FormatError
        The scores or the unknown token are missing, or the character map is damaged.
    """
    prefix = vocabulary.flag("add_space_prefix", True)
    return {
        "normalizer": _normalizer(vocabulary, prefix),
        "pre_tokenizer": None,
        "decoder": _decoder(prefix),
        "model": {
            "type": "Unigram",
            "unk_id": _unknown(vocabulary, 2),
            "vocab": [
                list(pair) for pair in zip(spelled(vocabulary), _scores(vocabulary), strict=True)
            ],
            "byte_fallback": bool(vocabulary.of_kind(BYTE)),
        },
    }


def spelled(vocabulary: Vocabulary) -> list[str]:
    """Every token; those that a user defined with spaces, as text has them."""
    return [
        token.replace(SPACE, " ") if kind == USER_DEFINED else token
        for token, kind in zip(vocabulary.tokens, vocabulary.kinds, strict=True)
    ]


def merges(vocabulary: Vocabulary) -> list[list[str]]:
    """Pairs of tokens that are joined, in their order: those of the file where it has them.

    Else they are pairs of normal tokens whose join is a normal token. SentencePiece joins the
    neighbours whose join has the highest score, the leftmost first. Of several pairs with one
    join, the longer left part comes first: it begins further left where two of them share a token.

    Raises
    ------
    FormatError
        The scores are missing, or all alike.
    """
    if vocabulary.get("merges"):
        return vocabulary.merges()
    scores = vocabulary.scores()
    normal = {vocabulary.tokens[i]: i for i in vocabulary.of_kind(NORMAL)}
    joined = [scores[i] for token, i in normal.items() if len(token) > 1]
    if len(joined) > 1 and len(set(joined)) == 1:
        raise FormatError("all tokens of the GGUF file have one score, and it has no merges")
    ranked = sorted(
        (-scores[i], i, -len(left), left, right)
        for token, i in normal.items()
        for left, right in _cuts(token)
        if left in normal and right in normal
    )
    return [[left, right] for *_, left, right in ranked]


def _scores(vocabulary: Vocabulary) -> list[float]:
    """Log-probabilities; the lowest for tokens that text is not to give, which Unigram takes."""
    scores, given = vocabulary.scores(), {NORMAL, USER_DEFINED}
    lowest = min((scores[i] for i in vocabulary.of_kind(NORMAL)), default=0.0)
    return [
        score if kind in given else lowest
        for score, kind in zip(scores, vocabulary.kinds, strict=True)
    ]


def _cuts(token: str) -> Iterator[tuple[str, str]]:
    return ((token[:at], token[at:]) for at in range(1, len(token)))


def _unknown(vocabulary: Vocabulary, default: int) -> int:
    marked = vocabulary.of_kind(UNKNOWN)
    found = vocabulary.named("unknown", marked[0] if marked else default)
    if found is None:
        raise FormatError("the GGUF file has no unknown token")
    return found


def _normalizer(vocabulary: Vocabulary, prefix: bool) -> Json:
    """Characters mapped, spaces trimmed, one put first, all of them written as U+2581."""
    steps: list[Json] = []
    characters = vocabulary.get("precompiled_charsmap")
    if characters:
        encoded = base64.b64encode(_bytes(characters)).decode("ascii")
        steps.append({"type": "Precompiled", "precompiled_charsmap": encoded})
    if vocabulary.flag("remove_extra_whitespaces", False):
        steps += [_replace({"Regex": r"\A +| +\z"}, ""), _replace({"Regex": " {2,}"}, " ")]
    if prefix:
        steps.append({"type": "Prepend", "prepend": SPACE})
    steps.append(_replace({"String": " "}, SPACE))
    return {"type": "Sequence", "normalizers": steps}


def _bytes(values: Any) -> bytes:
    """A character map: the length of a trie in 4 bytes, the trie, and texts."""
    try:
        content = bytes(value & 0xFF for value in values)
    except TypeError as error:
        raise FormatError("precompiled_charsmap of the GGUF file is no list of bytes") from error
    size = int.from_bytes(content[:4], "little")
    if size % 4 or not 4 + size < len(content):
        raise FormatError("precompiled_charsmap of the GGUF file is damaged")
    return content


def _replace(pattern: Json, content: str) -> Json:
    return {"type": "Replace", "pattern": pattern, "content": content}


def _decoder(prefix: bool) -> Json:
    steps = [_replace({"String": SPACE}, " "), {"type": "ByteFallback"}, {"type": "Fuse"}]
    if prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}
