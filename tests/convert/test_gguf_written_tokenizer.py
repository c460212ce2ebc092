"""A tokenizer that goes to a GGUF file and back cuts text as before."""

from __future__ import annotations

import json

import pytest
import tiny_gguf
from gguf_tokenizer_cases import GOLDEN, TEXTS
from tokenizers import Tokenizer

from lrc.convert.gguf.pre_tokenizers import PRE_TOKENIZERS
from lrc.convert.gguf.tokenizer import write_tokenizer
from lrc.convert.gguf.written_tokenizer import tokenizer_fields
from lrc.errors import FormatError, UnsupportedModelError

TRAINED = json.loads((GOLDEN / "sentencepiece.json").read_text("utf-8"))
BASE = {key: value for key, value in tiny_gguf.FIELDS.items() if key.startswith("tokenizer.")}


def there_and_back(fields, tmp_path):
    """The fields that are written of the files that ``fields`` were read to, and those again."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    write_tokenizer(fields, first)
    written = tokenizer_fields(first, len(fields["tokenizer.ggml.tokens"]))
    write_tokenizer(written, second)
    return written, *(Tokenizer.from_file(str(p / "tokenizer.json")) for p in (first, second))


@pytest.mark.parametrize("name", PRE_TOKENIZERS)
def test_every_cut_keeps_a_name_that_cuts_alike(name, tmp_path):
    written, first, second = there_and_back(BASE | {"tokenizer.ggml.pre": name}, tmp_path)
    known, found = (PRE_TOKENIZERS[n] for n in (name, written["tokenizer.ggml.pre"]))
    assert (found.json, found.nfc, found.whole_words) == (known.json, known.nfc, known.whole_words)
    for text in TEXTS[:6]:
        assert first.encode(text).ids == second.encode(text).ids


@pytest.mark.parametrize("name", ["llama", "gemma"])
def test_sentencepiece_models_give_the_same_ids(name, tmp_path):
    fields = TRAINED[name]["fields"]
    written, first, second = there_and_back(fields, tmp_path)
    for key in ("tokens", "token_type", "add_bos_token", "bos_token_id"):
        known = fields.get(f"tokenizer.ggml.{key}")
        assert known is None or written[f"tokenizer.ggml.{key}"] == known, key
    for text, ids in TRAINED[name]["ids"].items():
        assert first.encode(text, add_special_tokens=False).ids == ids, text
        assert second.encode(text, add_special_tokens=False).ids == ids, text
        assert first.encode(text).ids == second.encode(text).ids, text


def test_all_keys_come_back(tmp_path):
    more = {
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template.tool_use": "{{ tools }}",
        "tokenizer.ggml.eot_token_id": 0,
    }
    written, _, _ = there_and_back(BASE | more, tmp_path)
    for key, value in (BASE | more).items():
        if key not in ("tokenizer.ggml.eot_token_id",):  # of the generation config
            assert written[key] == value, key
    assert written["tokenizer.chat_templates"] == ["tool_use"]


def test_ids_without_a_token_are_filled_up(tmp_path):
    write_tokenizer(BASE, tmp_path)
    count = len(BASE["tokenizer.ggml.tokens"])
    written = tokenizer_fields(tmp_path, count + 2)
    assert written["tokenizer.ggml.tokens"][count:] == [f"[PAD{count}]", f"[PAD{count + 1}]"]
    assert written["tokenizer.ggml.token_type"][count:] == [5, 5]
    with pytest.raises(FormatError, match=f"the id {count - 1}"):
        tokenizer_fields(tmp_path, count - 1)


@pytest.mark.parametrize("fields", [BASE, TRAINED["llama"]["fields"]], ids=["bytes", "pieces"])
def test_one_without_merges_is_refused_in_a_line(fields, tmp_path):
    write_tokenizer(fields, tmp_path)
    path = tmp_path / "tokenizer.json"
    stored = json.loads(path.read_text("utf-8"))
    stored["model"]["merges"] = []
    path.write_text(json.dumps(stored), "utf-8")
    with pytest.raises(UnsupportedModelError, match="without merges is not written") as error:
        tokenizer_fields(tmp_path, len(fields["tokenizer.ggml.tokens"]))
    assert "\n" not in str(error.value)


def test_a_unigram_model_is_refused_in_a_line(tmp_path):
    fields = TRAINED["t5"]["fields"]
    write_tokenizer(fields, tmp_path)
    with pytest.raises(UnsupportedModelError, match=r"'Unigram' is not written.* hf instead$"):
        tokenizer_fields(tmp_path, len(fields["tokenizer.ggml.tokens"]))
