"""Tokens to text without half characters; special ids; chat templates; windows."""

import json
import sys

import hypothesis.strategies as st
import numpy as np
import pytest
import tokenizers
from hypothesis import given
from tiny import BOS, EOS, tokenizer, write_model

import lrc
from lrc.errors import CalibrationError, FormatError, LrcError, SpecError
from lrc.run.text import TextStream, Tokenizer, token_windows

BYTES = Tokenizer(tokenizer(), (257,), 256)


def spaced_tokenizer():
    """Words that carry their leading space, with bytes to fall back on, as Llama 2 has."""
    words = ["▁", "▁a", "▁cat", "s", "é", ".", "x"]
    vocab = {f"<0x{i:02X}>": i for i in range(256)} | {w: 256 + i for i, w in enumerate(words)}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, [], byte_fallback=True, unk_token="x"))
    made.decoder = tokenizers.decoders.Sequence(
        [
            tokenizers.decoders.Replace("▁", " "),
            tokenizers.decoders.ByteFallback(),
            tokenizers.decoders.Fuse(),
            tokenizers.decoders.Strip(" ", 1, 0),
        ]
    )
    return Tokenizer(made)


SPACED = spaced_tokenizer()


def streamed(made, ids):
    stream = TextStream(made)
    pieces = [stream.push(i) for i in ids]
    return [*pieces, stream.flush()]


@given(st.text())
def test_encode_then_decode_gives_the_text(text):
    ids = BYTES.encode(text)
    assert ids.dtype == np.int32
    assert BYTES.decode(ids) == text


@given(st.lists(st.integers(0, 257), max_size=40))
def test_streamed_pieces_join_to_the_whole_text(ids):
    pieces = streamed(BYTES, ids)
    assert "".join(pieces) == BYTES.decode(ids)


@given(st.text(min_size=1))
def test_streaming_never_emits_half_a_character(text):
    for piece in streamed(BYTES, BYTES.encode(text)):
        assert "\ufffd" not in piece or "\ufffd" in text


@given(st.lists(st.sampled_from([*range(256, 263), "é", "猫", "🐈"]), max_size=20))
def test_streaming_keeps_spaces_of_word_tokens(parts):
    ids = []
    for part in parts:
        ids += [part] if isinstance(part, int) else list(part.encode())
    pieces = streamed(SPACED, ids)
    assert "".join(pieces) == SPACED.decode(ids)
    assert not any("\ufffd" in piece for piece in pieces)


def test_streaming_is_prompt():
    """A piece comes with the token that completes it, not later."""
    stream = TextStream(BYTES)
    told = [stream.push(i) for i in BYTES.encode("aé猫")]
    assert told == ["a", "", "é", "", "", "猫"]
    assert stream.flush() == ""


def test_a_broken_end_is_told_by_flush():
    stream = TextStream(BYTES)
    assert [stream.push(i) for i in BYTES.encode("é")[:1]] == [""]
    assert stream.flush() == "\ufffd"
    assert stream.flush() == ""


def test_special_tokens_are_text_only_on_demand():
    ids = [256, *BYTES.encode("hi"), 257]
    assert BYTES.decode(ids) == "hi"
    assert BYTES.decode(ids, skip_special=False) == f"{BOS}hi{EOS}"


@pytest.fixture
def folder(tmp_path):
    return write_model(tmp_path / "model")


def edit(folder, name, **changes):
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def test_open_reads_everything(folder):
    opened = Tokenizer.open(folder)
    assert opened.eos_ids == (257,)
    assert opened.bos_id == 256
    text = opened.render_chat([{"role": "user", "content": "hé"}])
    assert text == f"{BOS}user\nhé{EOS}\n{BOS}assistant\n"
    ids = opened.apply_chat([{"role": "user", "content": "hé"}])
    assert ids[0] == 256
    assert opened.decode(ids, skip_special=False) == text


def test_eos_ids_unite_the_generation_and_the_tokenizer_settings(folder):
    edit(folder, "generation_config.json", eos_token_id=[7, 9])
    edit(folder, "config.json", eos_token_id=3)
    assert Tokenizer.open(folder).eos_ids == (7, 9, 257)
    (folder / "generation_config.json").unlink()
    assert Tokenizer.open(folder).eos_ids == (3, 257)
    edit(folder, "config.json", eos_token_id=None, bos_token_id=None)
    edit(folder, "tokenizer_config.json", bos_token={"content": EOS})
    assert Tokenizer.open(folder).bos_id == 256, "the older file comes first, as in transformers"
    (folder / "special_tokens_map.json").unlink()
    opened = Tokenizer.open(folder)
    assert (opened.eos_ids, opened.bos_id) == ((257,), 257)


def test_templates_may_be_named_or_in_a_file(folder):
    named = [{"name": "tool", "template": "t"}, {"name": "default", "template": "d{{ bos_token }}"}]
    edit(folder, "tokenizer_config.json", chat_template=named)
    assert Tokenizer.open(folder).render_chat([]) == f"d{BOS}"
    (folder / "chat_template.jinja").write_text("from a file")
    assert Tokenizer.open(folder).render_chat([]) == "from a file"


def test_a_model_without_template_says_so():
    with pytest.raises(SpecError, match="no chat template"):
        BYTES.apply_chat([{"role": "user", "content": "hi"}])


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% if %}", "template failed"),
        ("{{ messages[5].content }}", "template failed"),
        ("{{ messages.__class__.__mro__ }}", "template failed"),
        ("{{ messages.append(1) }}", "template failed"),
    ],
)
def test_templates_that_fail_or_leave_the_sandbox_are_refused(template, words):
    made = Tokenizer(tokenizer(), chat_template=template)
    with pytest.raises(SpecError, match=words):
        made.render_chat([{"role": "user", "content": "hi"}])


def test_templates_see_the_usual_helpers():
    source = "{% for m in messages %}{% break %}{% endfor %}{{ messages | tojson }}"
    made = Tokenizer(tokenizer(), chat_template=source + "{{ strftime_now('%Y') | length }}")
    assert made.render_chat([{"role": "<é>"}]) == '[{"role": "<é>"}]4'


def test_chat_without_jinja_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "jinja2", None)
    made = Tokenizer(tokenizer(), chat_template="x")
    with pytest.raises(LrcError, match=r"lrc-llm\[chat\]"):
        made.render_chat([])


def test_missing_and_broken_files_are_named(folder):
    (folder / "tokenizer_config.json").write_text("[1")
    with pytest.raises(FormatError, match=r"tokenizer_config\.json"):
        Tokenizer.open(folder)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(FormatError, match="not a valid tokenizer"):
        Tokenizer.open(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(FormatError, match=r"has no tokenizer\.json"):
        Tokenizer.open(folder)


@given(st.integers(1, 60), st.integers(1, 9), st.none() | st.integers(1, 9))
def test_windows_are_consecutive_and_cover(length, seqlen, nsamples):
    ids = np.arange(length)
    if length < seqlen:
        with pytest.raises(CalibrationError, match=f"{length} tokens and one window needs"):
            token_windows(ids, seqlen, nsamples)
        return
    windows = token_windows(ids, seqlen, nsamples)
    count = min(length // seqlen, nsamples or length)
    assert windows.dtype == np.int32
    np.testing.assert_array_equal(windows, ids[: count * seqlen].reshape(count, seqlen))


@given(st.integers(2, 2**32 - 1), st.integers(1, 8))
def test_random_windows_are_distinct_windows_of_the_text_in_order(seed, nsamples):
    ids = np.arange(50)
    windows = token_windows(ids, 6, nsamples, np.random.default_rng(seed))
    again = token_windows(ids, 6, nsamples, np.random.default_rng(seed))
    np.testing.assert_array_equal(windows, again)
    assert windows.shape == (nsamples, 6)
    assert (windows[:, 0] % 6 == 0).all()
    assert (np.diff(windows[:, 0]) > 0).all()
    np.testing.assert_array_equal(windows, windows[:, :1] + np.arange(6))


@pytest.mark.parametrize(("seqlen", "nsamples"), [(0, 1), (4, 0)])
def test_senseless_windows_are_refused(seqlen, nsamples):
    with pytest.raises(SpecError, match="must be at least 1"):
        token_windows(np.arange(9), seqlen, nsamples)


def test_load_opens_a_directory(folder):
    loaded = lrc.load(folder)
    assert loaded.path == folder
    assert loaded.tokenizer.bos_id == loaded.model.config.bos_id == 256
    ids = loaded.tokenizer.encode("a b")[None]
    logits = loaded.model.logits(ids)
    assert logits.shape == (1, 3, 258)
    assert np.isfinite(logits).all()
    with pytest.raises(FormatError):
        lrc.load(folder / "missing")
