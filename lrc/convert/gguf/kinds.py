"""Kinds of tokenizers in GGUF files, and what llama.cpp takes for keys that a file lacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lrc.convert.gguf.byte_level import byte_level_parts, pre_tokenizer
from lrc.convert.gguf.sentencepiece import bpe_parts, spelled, unigram_parts
from lrc.convert.gguf.vocabulary import Vocabulary
from lrc.errors import UnsupportedModelError

Json = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """What a value of ``tokenizer.ggml.model`` stands for.

    Attributes
    ----------
    parts
        Normalizer, pre-tokenizer, decoder and model of tokenizer.json.
    texts
        Every token as tokenizer.json writes it.
    adds
        Whether BOS and EOS are added where the file does not say so.
    ids
        Ids of bos, eos, unknown and padding where the file does not give them.
    """

    parts: Callable[[Vocabulary], Json]
    texts: Callable[[Vocabulary], list[str]]
    adds: Callable[[Vocabulary], tuple[bool, bool]]
    ids: Mapping[str, int]


#: Value of ``tokenizer.ggml.model`` to what it stands for.
KINDS = {
    "gpt2": Kind(
        byte_level_parts, lambda v: v.tokens, lambda v: (pre_tokenizer(v).adds_bos, False), {}
    ),
    "llama": Kind(bpe_parts, spelled, lambda _: (True, False), {"bos": 1, "eos": 2, "unknown": 0}),
    "t5": Kind(
        unigram_parts, spelled, lambda _: (False, True), {"eos": 1, "unknown": 2, "padding": 0}
    ),
}


def kind_of(fields: Mapping[str, Any]) -> Kind:
    """The kind of the tokenizer of a file with these keys and values.

    Raises
    ------
    UnsupportedModelError
        It is not known.
    """
    model = fields.get("tokenizer.ggml.model")
    if model not in KINDS:
        raise UnsupportedModelError(
            f"the GGUF file has a tokenizer of kind {model!r}; known are {', '.join(KINDS)}: take "
            "tokenizer.json from the original model"
        )
    return KINDS[model]
