"""The tokenizer in a GGUF file cuts text as it did before, with its special tokens."""

from __future__ import annotations

import itertools
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
from lrc.convert.gguf.tokenizer import write_tokenizer
from lrc.errors import FormatError
from lrc.run.text import Tokenizer as LrcTokenizer


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


def test_end_of_turn_is_known_by_its_name(tmp_path: Path) -> None:
    tokens = [*SPECIAL[:2], "<end_of_turn>", *TOKENS[3:]]
    changes = {"tokenizer__ggml__tokens": tokens, "tokenizer__ggml__eos_token_id": 0}
    path = imported(tmp_path, **changes)
    assert as_json(path / "generation_config.json")["eos_token_id"] == [0, 2]


def test_templates_keep_their_names(tmp_path: Path) -> None:
    path = imported(tmp_path, tokenizer__chat_template__tool_use="{{ tools }}")
    assert LrcTokenizer.open(path).chat_templates == {
        "default": TEMPLATE,
        "tool_use": "{{ tools }}",
    }


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


#: A tokenizer by SentencePiece: specials, a byte for "!", letters, pairs of them, a user's token.
SPM = ["<unk>", "<s>", "</s>", "<0x21>", "\u2581", "a", "b", "ab", "\u2581a", "\u2581ab", "  "]
SPM += ["<x>"]
SPM_FIELDS: dict[str, Any] = {
    "tokenizer.ggml.model": "llama",
    "tokenizer.ggml.tokens": SPM,
    "tokenizer.ggml.scores": [0.0] * 7 + [-1.0, -2.0, -3.0, -1000.0, -1000.0],
    "tokenizer.ggml.token_type": [2, 3, 3, 6, 1, 1, 1, 1, 1, 1, 4, 4],
}


def sentencepiece(folder: Path, **changes: Any) -> Tokenizer:
    """The tokenizer that the files have; names of changes write ``__`` for each dot."""
    own = {f"tokenizer.ggml.{key}": value for key, value in changes.items()}
    write_tokenizer(SPM_FIELDS | own, folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def test_sentencepiece_joins_by_score_and_falls_back_to_bytes(tmp_path: Path) -> None:
    tokenizer = sentencepiece(tmp_path)
    assert tokenizer.encode("ab b!").tokens == ["<s>", "\u2581ab", "\u2581", "b", "<0x21>"]
    assert tokenizer.encode("ab a").tokens == ["<s>", "\u2581ab", "\u2581a"]
    assert tokenizer.encode("a<x>  b</s>").ids == [1, 8, 11, 10, 4, 6, 2]
    ids = as_json(tmp_path / "special_tokens_map.json")
    assert ids == {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def test_no_space_is_put_first_where_the_file_says_so(tmp_path: Path) -> None:
    tokenizer = sentencepiece(tmp_path, add_space_prefix=False)
    assert tokenizer.encode("ab a", add_special_tokens=False).ids == [7, 8]
    assert tokenizer.decode([7, 8]) == "ab a"


def test_tokens_of_a_user_stand_in_text_as_it_is(tmp_path: Path) -> None:
    """Some converters leave U+2581 in them."""
    tokenizer = sentencepiece(tmp_path, tokens=[*SPM[:10], "\u2581\u2581", "<x>"])
    assert tokenizer.encode("a  b", add_special_tokens=False).ids == [8, 10, 4, 6]


@pytest.mark.parametrize(("bos", "eos"), list(itertools.product([False, True], repeat=2)))
def test_start_and_end_are_added_as_the_file_says(tmp_path: Path, bos: bool, eos: bool) -> None:
    tokenizer = sentencepiece(tmp_path, add_bos_token=bos, add_eos_token=eos)
    assert tokenizer.encode("a").ids == [1] * bos + [8] + [2] * eos
    config = as_json(tmp_path / "tokenizer_config.json")
    assert (config["add_bos_token"], config["add_eos_token"]) == (bos, eos)


def test_special_tokens_of_phi3_take_the_spaces_after_them(tmp_path: Path) -> None:
    """As its own tokenizer.json says; GGUF has no place for it."""
    found = {}
    for name in ("llama", "phi3"):
        write_tokenizer(SPM_FIELDS | {"general.architecture": name}, tmp_path)
        tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
        found[name] = tokenizer.encode("<x> a</s>", add_special_tokens=False).ids
    assert found == {"llama": [11, 4, 8, 2], "phi3": [11, 8, 2]}


@pytest.mark.parametrize(
    ("message", "changes"),
    [
        ("no list of 12 .*scores", {"scores": [0.0]}),
        ("no list of 12 .*scores", {"scores": None}),
        ("add_space_prefix is 'no'", {"add_space_prefix": "no"}),
        ("no list of bytes", {"precompiled_charsmap": 7}),
        ("charsmap .* damaged", {"precompiled_charsmap": [7]}),
        ("charsmap .* damaged", {"precompiled_charsmap": [4, 0, 0, 1, 0, 0, 0, 0]}),
        ("unknown_token_id is 12", {"unknown_token_id": 12}),
    ],
)
def test_damaged_sentencepiece_is_refused(
    tmp_path: Path, message: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(FormatError, match=message):
        sentencepiece(tmp_path, **changes)
    assert not list(tmp_path.iterdir())


def test_user_defined_tokens_are_added_but_not_special(tmp_path: Path) -> None:
    kinds = [3, 4, 3, *[1] * (len(TOKENS) - 3)]
    path = imported(tmp_path, tokenizer__ggml__token_type=kinds)
    added = as_json(path / "tokenizer.json")["added_tokens"]
    assert [(t["id"], t["special"]) for t in added] == [(0, True), (1, False), (2, True)]
