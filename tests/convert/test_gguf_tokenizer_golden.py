"""Tokenizers from GGUF files cut text as the original tokenizers do, by golden data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gguf_tokenizer_cases import GOLDEN, TEXTS
from tokenizers import Tokenizer

from lrc.convert.gguf.byte_level import byte_level_parts
from lrc.convert.gguf.pre_tokenizers import PRE_TOKENIZERS
from lrc.convert.gguf.tokenizer import write_tokenizer
from lrc.convert.gguf.vocabulary import Vocabulary


def golden(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text("utf-8"))


CUTS = {name: rule["lengths"] for rule in golden("pre_tokenizers") for name in rule["names"]}
TRAINED = golden("sentencepiece")


def test_every_name_has_golden_cuts() -> None:
    assert CUTS.keys() == PRE_TOKENIZERS.keys()


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_text_is_cut_as_the_model_of_that_name_cuts(name: str) -> None:
    fields = {f"tokenizer.ggml.{key}": [] for key in ("tokens", "merges", "token_type")}
    parts = byte_level_parts(Vocabulary.read(fields | {"tokenizer.ggml.pre": name}))
    tokenizer = Tokenizer.from_str(json.dumps({"version": "1.0", "added_tokens": [], **parts}))
    for text, lengths in zip(TEXTS, CUTS[name], strict=True):
        if tokenizer.normalizer is not None:
            text = tokenizer.normalizer.normalize_str(text)
        assert tokenizer.pre_tokenizer is not None
        words = tokenizer.pre_tokenizer.pre_tokenize_str(text)
        assert [len(word) for word, _ in words] == lengths, text


@pytest.mark.parametrize("name", TRAINED)
def test_sentencepiece_models_give_their_ids(tmp_path: Path, name: str) -> None:
    write_tokenizer(TRAINED[name]["fields"], tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text, ids in TRAINED[name]["ids"].items():
        got = tokenizer.encode(text, add_special_tokens=False).ids
        if name in ("unigram", "t5"):  # "-", "--" is as probable as "--", "-"
            got, ids = sorted(got), sorted(ids)
        assert got == ids, text


@pytest.mark.parametrize("name", ["llama", "gemma", "unigram"])
def test_any_text_comes_back_from_byte_fallback(tmp_path: Path, name: str) -> None:
    write_tokenizer(TRAINED[name]["fields"], tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in TRAINED[name]["ids"]:
        if name == "unigram":
            text = text.translate({0xFB01: "fi", 0xFF21: "A", 0xFF11: "1", 0x2019: "'"})
            text = " ".join(word for word in text.split(" ") if word)
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        assert tokenizer.decode(ids, skip_special_tokens=False) == text
