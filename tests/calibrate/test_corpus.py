"""Calibration text: what is read, in which order, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from tiny_llama import tiny_model

from lrc.calibrate.corpus import calibration_windows, read_texts
from lrc.errors import CalibrationError
from lrc.progress import SILENT
from lrc.self_text import first_token
from lrc.spec import CalibrationSpec
from lrc.tokens import Tokenizer

#: JSON lines end with a line feed alone; these look like line ends to Python.
SEPARATORS = "\u2028\u2029\x85\x0b\x0c\x1c"


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return Tokenizer.open(tiny.write_model(tmp_path_factory.mktemp("tokens") / "model"))


def windows(tokenizer, files, nsamples=3, seqlen=8, model=None, threads=1, seed=5):
    spec = CalibrationSpec(tuple(str(f) for f in files), nsamples, seqlen)
    return calibration_windows(spec, tokenizer, model, seed=seed, threads=threads, progress=SILENT)


def test_text_is_one_document(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text('{"text": "not parsed"}\nsecond é\n', encoding="utf-8")
    assert list(read_texts(path)) == ['{"text": "not parsed"}\nsecond é\n']


@given(texts=st.lists(st.text(max_size=20), max_size=4), escape=st.booleans())
def test_json_lines_come_back(texts, escape, tmp_path_factory):
    path = tmp_path_factory.mktemp("jsonl") / "a.jsonl"
    texts = [*texts, SEPARATORS]
    lines = [json.dumps({"id": 3, "text": t}, ensure_ascii=escape) for t in texts]
    lines.insert(1, "")
    content = "\n".join(lines) + "\n"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    if any("\ud800" <= c <= "\udfff" for t in texts for c in t) and not escape:
        with pytest.raises(CalibrationError, match="cannot be read"):
            list(read_texts(path))
    else:
        assert list(read_texts(path)) == texts


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("plain words", "line 2: not JSON"),
        ("[1]", 'line 2: expected an object with a string "text"'),
        ('"text"', "line 2: expected an object"),
        ('{"content": "a"}', "line 2: expected an object"),
        ('{"text": 5}', "line 2: expected an object"),
        ('{"text": null}', "plain text in a .txt file"),
    ],
)
def test_malformed_lines_are_named(line, message, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "fine"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(CalibrationError, match=message):
        list(read_texts(path))


def test_files_that_are_not_text_are_refused(tmp_path):
    binary = tmp_path / "a.txt"
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (binary, tmp_path / "absent.txt", tmp_path):
        with pytest.raises(CalibrationError, match="cannot be read"):
            list(read_texts(path))


def test_windows_are_the_first_tokens_over_files_in_order(tmp_path, tokenizer):
    first, second = tmp_path / "a.txt", tmp_path / "b.jsonl"
    first.write_text("abcdefghij", encoding="utf-8")
    second.write_text('{"text": "klmnop"}\n{"text": "qrstuvwxyz"}\n', encoding="utf-8")
    found = windows(tokenizer, [first, second])
    assert found.shape == (3, 8)
    expected = np.asarray(tokenizer.encode("abcdefghijklmnopqrstuvwx")).reshape(3, 8)
    np.testing.assert_array_equal(found, expected)
    other = windows(tokenizer, [second, first], nsamples=1)
    np.testing.assert_array_equal(other[0], np.asarray(tokenizer.encode("klmnopqr")))


def test_files_after_the_last_token_needed_are_not_read(tmp_path, tokenizer):
    first = tmp_path / "a.txt"
    first.write_text("abcdefghijklmnop" * 400, encoding="utf-8")
    found = windows(tokenizer, [first, tmp_path / "absent.txt"])
    np.testing.assert_array_equal(found.ravel()[:16], tokenizer.encode("abcdefghijklmnop"))


def test_a_long_text_is_not_tokenized_whole(tmp_path, tokenizer, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("x" * 200_000, encoding="utf-8")
    lengths = []
    encode = Tokenizer.encode

    def counted(self, text, **options):
        lengths.append(len(text))
        return encode(self, text, **options)

    monkeypatch.setattr(Tokenizer, "encode", counted)
    windows(tokenizer, [path])
    assert sum(lengths) < 10_000


def test_short_text_gives_fewer_windows_and_too_short_is_refused(tmp_path, tokenizer):
    path = tmp_path / "a.txt"
    path.write_text("abcdefghijklmnopqrst", encoding="utf-8")
    assert windows(tokenizer, [path], nsamples=9).shape == (2, 8)
    with pytest.raises(CalibrationError, match="20 tokens and one window needs 21"):
        windows(tokenizer, [path], seqlen=21)


@pytest.mark.parametrize(("name", "content"), [("a.txt", ""), ("a.jsonl", ""), ("a.jsonl", "\n\n")])
def test_no_text_is_refused(name, content, tmp_path, tokenizer):
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    with pytest.raises(CalibrationError, match=r"no text in .*a.*; give a file with text"):
        windows(tokenizer, [path])


@pytest.mark.parametrize(
    ("in_config", "bos", "eos", "first", "told"),
    [
        (256, 255, (257,), 256, ()),
        (None, 255, (257,), 255, ("token 255, BOS of the tokenizer",)),
        (None, None, (3, 257), 3, ("token 3, which ends texts",)),
        (None, None, (), None, ("random tokens",)),
    ],
)
def test_what_self_written_text_begins_with(tokenizer, in_config, bos, eos, first, told):
    model = tiny_model(vocab_size=258, bos_token_id=in_config)
    given = Tokenizer(tokenizer.backend, eos, bos)
    found = first_token(model, given)
    assert found.id == first
    assert len(found.notes) == len(told)
    assert all(part in line for part, line in zip(told, found.notes, strict=True))
    starts = windows(given, [], 4, 6, model)[:, 0]
    assert set(starts) == {first} if first is not None else len(set(starts)) > 1


def test_without_files_the_model_writes_and_threads_do_not_matter(tokenizer):
    model = tiny_model(vocab_size=258, bos_token_id=256, eos_token_id=257)
    found = windows(tokenizer, [], 4, 6, model)
    assert found.shape == (4, 6)
    assert (found[:, 0] == 256).all()
    np.testing.assert_array_equal(found, windows(tokenizer, [], 4, 6, model, threads=2))
    assert (found != windows(tokenizer, [], 4, 6, model, seed=6)).any()
