"""Calibration windows: from where they are drawn, and what is said of it."""

from __future__ import annotations

import json
import tracemalloc

import numpy as np
import pytest
import tiny
from tiny_llama import tiny_model

from lrc.base.progress import SILENT
from lrc.calibrate.mixture import calibration_windows
from lrc.calibrate.self_text import first_token
from lrc.errors import CalibrationError, SpecError
from lrc.run.text import Tokenizer
from lrc.spec import CalibrationSpec

MODEL = tiny_model()


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return Tokenizer.open(tiny.write_model(tmp_path_factory.mktemp("tokens") / "model"))


def drawn(tokenizer, files, nsamples=3, seqlen=8, model=MODEL, threads=1, seed=5):
    spec = CalibrationSpec(tuple(str(f) for f in files), nsamples, seqlen)
    return calibration_windows(spec, tokenizer, model, seed=seed, threads=threads, progress=SILENT)


def windows(*given, **options):
    return drawn(*given, **options).windows


def text_of(tokenizer, found):
    return [tokenizer.decode(window) for window in found.windows]


def test_text_that_is_just_enough_is_used_whole_over_documents_and_files(tmp_path, tokenizer):
    first, second = tmp_path / "a.txt", tmp_path / "b.jsonl"
    first.write_text("abcdefghij", encoding="utf-8")
    second.write_text('{"text": "klmnop"}\n{"text": "qrstuvwxyz"}\n', encoding="utf-8")
    found = drawn(tokenizer, [first, second])
    assert text_of(tokenizer, found) == ["abcdefgh", "ijklmnop", "qrstuvwx"]
    uses = [(use["tokens"], use["windows"]) for use in found.record["files"]]
    assert uses == [(10, 2), (14, 2)]
    assert found.warnings == ()
    assert found.record["windows"], found.record["window_tokens"] == (3, 8)
    other = drawn(tokenizer, [second, first])
    assert text_of(tokenizer, other)[0] == "klmnopqr"


@pytest.mark.parametrize("repeats", [3, 4000])
def test_every_file_has_its_share_and_no_token_is_seen_twice(repeats, tmp_path, tokenizer):
    """Short texts are tokenized whole, long ones at places only; both are drawn alike."""
    files = []
    for letter, lines in (("a", 2), ("b", 5), ("c", 3)):
        files.append(tmp_path / f"{letter}.txt")
        counted = (f"{letter}{i:06}\n" for i in range(lines * repeats * 20))
        files[-1].write_text("".join(counted), encoding="utf-8")
    found = drawn(tokenizer, files, nsamples=20, seqlen=16)
    assert found.windows.shape == (20, 16)
    tokens = [use["tokens"] for use in found.record["files"]]
    assert sum(tokens) == found.windows.size
    for count, share in zip(tokens, (0.2, 0.5, 0.3), strict=True):
        assert abs(count / found.windows.size - share) <= 0.051
    starts = [text[:8] for text in text_of(tokenizer, found)]
    assert starts == sorted(set(starts))
    again = drawn(tokenizer, files, nsamples=20, seqlen=16)
    np.testing.assert_array_equal(found.windows, again.windows)
    other = drawn(tokenizer, files, nsamples=20, seqlen=16, seed=6)
    assert (found.windows != other.windows).any()


def test_documents_of_json_lines_are_entered_in_the_midst(tmp_path, tokenizer):
    path = tmp_path / "a.jsonl"
    text = " ".join(f"w{i:05}" for i in range(3000))
    path.write_text((json.dumps({"text": text, "meta": "m" * 50}) + "\n") * 3, encoding="utf-8")
    found = drawn(tokenizer, [path], nsamples=12, seqlen=14)
    seen = text_of(tokenizer, found)
    assert len({window[:6] for window in seen}) == 12
    assert all(window[0] == "w" and window in text for window in seen)
    assert sum(window.startswith("w00000") for window in seen) <= 1


def test_records_that_are_mostly_something_else_still_give_what_they_have(tmp_path, tokenizer):
    path = tmp_path / "a.jsonl"
    record = {"meta": "m" * 5000, "text": "abcdefgh"}
    path.write_text((json.dumps(record) + "\n") * 9, encoding="utf-8")
    found = drawn(tokenizer, [path], nsamples=12, seqlen=8)
    assert 7 <= len(found.windows) <= 9
    assert f"gave {len(found.windows)} windows of 8, not 12" in found.warnings[0]


def test_what_was_left_out_is_told(tmp_path, tokenizer):
    large, small = tmp_path / "large.txt", tmp_path / "small.jsonl"
    large.write_text("abcdefgh" * 100, encoding="utf-8")
    small.write_text('{"text": null}\n{"text": "\\ud83d"}\n', encoding="utf-8")
    found = drawn(tokenizer, [large, small], nsamples=2)
    use = found.record["files"][1]
    assert (use["tokens"], use["skipped_records"], use["replaced_characters"]) == (0, 1, 1)
    told = "\n".join(found.warnings)
    assert "no token of text file" in told
    assert "1 records of" in told
    assert '"text" is null' in told
    assert "1 halves of UTF-16 pairs" in told


def test_a_long_text_is_neither_tokenized_nor_held_whole(tmp_path, tokenizer, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("some words of a line\n" * 1_000_000, encoding="utf-8")
    lengths = []
    encode = Tokenizer.encode

    def counted(self, text, **options):
        lengths.append(len(text))
        return encode(self, text, **options)

    monkeypatch.setattr(Tokenizer, "encode", counted)
    tracemalloc.start()
    found = drawn(tokenizer, [path], nsamples=16, seqlen=64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.windows.shape == (16, 64)
    assert sum(lengths) < 16 * 8192
    assert peak < 2_000_000


def test_windows_keep_within_the_context(tokenizer, tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("abcdefgh" * 100, encoding="utf-8")
    model = tiny_model(max_position_embeddings=32)
    assert drawn(tokenizer, [path], seqlen="auto", model=model).windows.shape == (3, 32)
    assert drawn(tokenizer, [path], seqlen=32, model=model).windows.shape == (3, 32)
    with pytest.raises(SpecError, match="seqlen=33 exceeds the model's context of 32"):
        drawn(tokenizer, [path], seqlen=33, model=model)


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
