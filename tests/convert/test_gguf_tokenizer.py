"""The tokenizer in a GGUF file cuts text as it did before, with its special tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_gguf
from hypothesis import given
from hypothesis import strategies as st
from tiny_gguf import SPECIAL, TEMPLATE, TOKENS
from tokenizers import Tokenizer

from lrc.convert.gguf import import_gguf


def imported(folder: Path, **changes: Any) -> Path:
    return import_gguf(tiny_gguf.write(folder / "m.gguf", **changes), folder / "out")


def as_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return imported(tmp_path_factory.mktemp("gguf"))


def test_special_tokens_and_template_survive(directory: Path) -> None:
    config = as_json(directory / "tokenizer_config.json")
    special = as_json(directory / "special_tokens_map.json")
    names = {"bos_token": SPECIAL[1], "eos_token": SPECIAL[2], "unk_token": SPECIAL[0]}
    assert special == names
    assert {key: config[key] for key in names} == names
    assert config["chat_template"] == TEMPLATE
    assert as_json(directory / "generation_config.json") == {"bos_token_id": 1, "eos_token_id": 2}


def test_end_of_turn_joins_the_end_tokens(tmp_path: Path) -> None:
    path = imported(tmp_path, tokenizer__ggml__eot_token_id=0)
    assert as_json(path / "generation_config.json")["eos_token_id"] == [2, 0]


@given(text=st.text(st.characters(codec="utf-8", exclude_categories=["Cs"])))
def test_any_text_survives_the_tokenizer(directory: Path, text: str) -> None:
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text


def test_text_is_cut_as_the_pre_tokenizer_says(directory: Path) -> None:
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokens = tokenizer.encode("in the<|im_end|>12 <|im_start|>").tokens
    assert tokens == ["in", "Ġthe", "<|im_end|>", "1", "2", "Ġ", "<|im_start|>"]


def test_other_pre_tokenizers(tmp_path: Path) -> None:
    cut = {}
    for pre in ("gpt-2", "llama-bpe"):
        (tmp_path / pre).mkdir()
        path = imported(
            tmp_path / pre, tokenizer__ggml__pre=pre, tokenizer__ggml__add_bos_token=None
        )
        tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        assert tokenizer.pre_tokenizer is not None
        words = tokenizer.pre_tokenizer.pre_tokenize_str("It'S 12345\r\n\r\n  (the end)")
        cut[pre] = [word for word, _ in words]
        cut[f"{pre} ids"] = tokenizer.encode("12").tokens
    assert cut["gpt-2"] == ["It", "'", "S", "Ġ12345", "čĊčĊĠ", "Ġ(", "the", "Ġend", ")"]
    llama = ["It", "'S", "Ġ", "123", "45", "čĊčĊ", "Ġ", "Ġ(", "the", "Ġend", ")"]
    assert cut["llama-bpe"] == llama
    assert cut["gpt-2 ids"] == ["12"]
    assert cut["llama-bpe ids"] == ["<|im_start|>", "12"]


def test_user_defined_tokens_are_added_but_not_special(tmp_path: Path) -> None:
    kinds = [3, 4, 3, *[1] * (len(TOKENS) - 3)]
    path = imported(tmp_path, tokenizer__ggml__token_type=kinds)
    added = as_json(path / "tokenizer.json")["added_tokens"]
    assert [(t["id"], t["special"]) for t in added] == [(0, True), (1, False), (2, True)]
