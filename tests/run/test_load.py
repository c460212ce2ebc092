"""A loaded model generates text: from text or messages, up to where the model ends it."""

import gc
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from tiny import BOS, write_model

import lrc
from lrc.errors import FormatError, SpecError
from lrc.run.text import text_pieces

MESSAGES = [{"role": "user", "content": "Why?"}]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return lrc.load(write_model(tmp_path_factory.mktemp("load") / "model"))


def stopping(loaded, monkeypatch, eos_ids):
    monkeypatch.setattr(loaded.tokenizer, "eos_ids", tuple(eos_ids))
    return loaded


def test_the_pieces_are_the_text_of_the_tokens(loaded):
    sampler = lrc.Sampler(temperature=1.0, seed=3)
    ids = loaded.tokenizer.encode_prompt("The quick")
    tokens = list(lrc.generate(loaded.model, ids, 30, sampler, loaded.tokenizer.eos_ids))
    pieces = list(loaded.generate("The quick", 30, sampler))
    assert "".join(pieces) == loaded.tokenizer.decode(tokens)
    assert len(pieces) > 1
    assert all(pieces)
    assert pieces == list(loaded.generate("The quick", 30, sampler, threads=2))


def test_messages_go_through_the_chat_template(loaded):
    text = f"{BOS}user\nWhy?<|end|>\n{BOS}assistant\n"
    assert loaded.tokenizer.decode(loaded.prompt_ids(MESSAGES), skip_special=False) == text
    plain = loaded.tokenizer.encode(text)
    np.testing.assert_array_equal(loaded.prompt_ids(MESSAGES), plain)
    assert list(loaded.generate(MESSAGES, 9)) == list(loaded.generate(text, 9))


def test_the_text_ends_before_eos(loaded, monkeypatch):
    ids = loaded.prompt_ids("The quick")
    tokens = list(lrc.generate(loaded.model, ids, 12, lrc.Sampler(temperature=1.0)))
    stop = tokens[5]
    stopping(loaded, monkeypatch, {stop})
    text = "".join(loaded.generate("The quick", 12, lrc.Sampler(temperature=1.0)))
    assert text == loaded.tokenizer.decode(tokens[: tokens.index(stop)])


def test_without_a_limit_the_context_is_the_limit(loaded, monkeypatch):
    stopping(loaded, monkeypatch, ())

    def texts(prompt, *limits):
        return ["".join(loaded.generate(prompt, limit)) for limit in limits]

    free, exact, shorter = texts("a" * 505, None, 7, 6)  # of a context of 512
    assert free == exact != shorter
    monkeypatch.setattr(sys.modules["lrc.run.load"], "MAX_NEW_TOKENS", 5)
    free, exact, shorter = texts("a", None, 5, 4)
    assert free == exact != shorter


def test_senseless_requests_are_refused_at_once(loaded, monkeypatch):
    with pytest.raises(SpecError, match="512 tokens and 1 new ones exceed"):
        loaded.generate("a" * 512)
    with pytest.raises(SpecError, match="max_new_tokens=0"):
        loaded.generate("a", 0)
    monkeypatch.setattr(loaded.tokenizer, "bos_id", None)
    with pytest.raises(SpecError, match="give some text"):
        loaded.generate("")
    monkeypatch.setattr(loaded.tokenizer, "chat_templates", {})
    with pytest.raises(SpecError, match="chat template"):
        loaded.generate(MESSAGES)


def test_pieces_never_split_a_character(loaded):
    tokenizer = loaded.tokenizer
    ids = [int(i) for i in tokenizer.encode("aé猫")]
    assert list(text_pieces(tokenizer, ids)) == ["a", "é", "猫"]
    assert list(text_pieces(tokenizer, ids[:-1])) == ["a", "é", "\ufffd"]
    assert list(text_pieces(tokenizer, [])) == []


def test_a_stop_string_ends_the_text(loaded):
    whole = "".join(loaded.generate("The quick", 30, lrc.Sampler(temperature=1.0)))
    stop = whole[7:9]
    cut = "".join(loaded.generate("The quick", 30, lrc.Sampler(temperature=1.0), stop=[stop]))
    assert cut == whole[: whole.index(stop)]
    with pytest.raises(SpecError, match="empty"):
        loaded.generate("The quick", stop=[""])


def test_a_model_may_be_closed_and_lets_go_of_its_files(tmp_path):
    """What the README shows: in a with statement, pieces up to where the model ends the text."""
    folder = write_model(tmp_path / "model")
    maps = Path("/proc/self/maps")

    def is_mapped():
        gc.collect()
        return maps.exists() and str(folder) in maps.read_text()

    with lrc.load(folder) as model:
        pieces = model.generate("The quick", 5)
        assert "".join(pieces)
        assert is_mapped() == maps.exists()
    assert not is_mapped()
    with pytest.raises(FormatError, match="was closed; open the model again"):
        "".join(model.generate("The quick", 5))
    model.close()


def test_a_text_may_be_closed_and_gives_back_its_cache(loaded, monkeypatch):
    made = []
    original = type(loaded.model).new_cache

    def new_cache(self, *sizes):
        cache = original(self, *sizes)
        made.append(weakref.ref(cache))
        return cache

    monkeypatch.setattr(type(loaded.model), "new_cache", new_cache)
    pieces = loaded.generate("The quick", 30)
    next(pieces)
    assert made[0]() is not None
    pieces.close()
    assert made[0]() is None
    assert list(pieces) == []
