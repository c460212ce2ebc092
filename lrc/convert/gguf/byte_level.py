"""Byte-level BPE (``tokenizer.ggml.model = "gpt2"``): merges are in the file, the cut is a name."""

from __future__ import annotations

from typing import Any

from lrc.convert.gguf.pre_tokenizers import PRE_TOKENIZERS, PreTokenizer, byte_level
from lrc.convert.gguf.vocabulary import Vocabulary
from lrc.errors import UnsupportedModelError


def byte_level_parts(vocabulary: Vocabulary) -> dict[str, Any]:
    """Normalizer, pre-tokenizer, model and decoder of tokenizer.json.

    Raises
    ------
    UnsupportedModelError
        The pre-tokenizer is not in the table.
    FormatError
        The merges are missing or are no pairs.
    """
    pre = pre_tokenizer(vocabulary)
    return {
        "normalizer": {"type": "NFC"} if pre.nfc else None,
        "pre_tokenizer": pre.json,
        "decoder": byte_level(use_regex=True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": pre.whole_words,
            "vocab": {token: i for i, token in enumerate(vocabulary.tokens)},
            "merges": vocabulary.merges(),
        },
    }


def pre_tokenizer(vocabulary: Vocabulary) -> PreTokenizer:
    """How text is cut.

    Raises
    ------
    UnsupportedModelError
        The file does not say, or by a name that is not in the table.
    """
    name = vocabulary.get("pre")
    if name not in PRE_TOKENIZERS:
        raise UnsupportedModelError(
            f"the GGUF file names the pre-tokenizer {name!r}, which does not say how the model "
            f"cuts text; known: {', '.join(PRE_TOKENIZERS)}"
        )
    return PRE_TOKENIZERS[name]
