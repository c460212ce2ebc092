"""What readers of files say that refuse one: what was given, what was expected, what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from wav_files import chunk, wav_bytes

from lrc.audio.wav import read_wav
from lrc.base.strict_json import parse_object
from lrc.errors import LrcError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.pipeline.journal import Journal, load_windows
from lrc.run.utterances import read_utterances

SOUND = np.sin(np.arange(40) / 9.0)
CONVERT = "ffmpeg -i x.wav"
FETCH = "fetch or record it again"
DAMAGED = "it is damaged"


def wav(**header: int) -> bytes:
    return wav_bytes(SOUND, **header)


def without_format() -> bytes:
    whole = wav()
    return whole.replace(b"fmt ", b"fmx ")


WAV: dict[str, tuple[bytes, tuple[str, ...]]] = {
    "channels": (wav(channels=0, frame_bytes=0), ("0 channels", "expected 1 to", CONVERT)),
    "rate": (wav(rate=3), ("3 samples a second", "expected", CONVERT)),
    "bits": (wav(bits=12), ("samples of 12 bits", "are read", CONVERT)),
    "frame": (wav(frame_bytes=7), ("said to take 7 bytes", "expected 2")),
    "cut off": (wav()[:60], ("of the 80 bytes of samples that it names", FETCH)),
    "half a sample": (wav(length=79), ("79 bytes", "no multiple of the 2", FETCH)),
    "none": (wav(length=0), ("holds no samples", FETCH)),
    "no end": (wav()[:20], ("its format takes", "expected 16 or more", DAMAGED)),
    "no samples": (wav()[:36], ("ends before its samples", FETCH)),
    "no format": (without_format(), ("samples before the chunk that says what they are",)),
    "many chunks": (
        wav_bytes(SOUND, extra=chunk(b"LIST", b"a") * 5000), ("chunks before its samples",)),
    "used bits": (
        wav_bytes(SOUND, extensible=True, used=17), ("17 of 16 bits", "expected 1 to 16", DAMAGED)),
    "codec": (wav(kind=0x55), ("a WAV file of MP3", CONVERT)),
    "mp3": (b"ID3" + bytes(40), ("is MP3, and WAV is read", CONVERT)),
    "else": (b"hello, this is text", ("is no WAV file", "where 'RIFF' should")),
}  # fmt: skip


@pytest.mark.parametrize("name", WAV)
def test_audio_that_is_not_read(tmp_path: Path, name: str) -> None:
    content, expected = WAV[name]
    (path := tmp_path / "x.wav").write_bytes(content)
    check(lambda: read_wav(path), str(path), *expected)


def check(read: Callable[[], object], *expected: str) -> None:
    with pytest.raises(LrcError) as error:
        read()
    line = str(error.value)
    assert "\n" not in line
    for part in expected:
        assert part in line, line


def length(count: int) -> bytes:
    return count.to_bytes(8, "little")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"abc", ("has 3 bytes", "has at least 8", "fetch it again")),
        (length(900) + b"{}", ("a header of 900 bytes but has 2", "truncated")),
        (length(4) + b"{} x", ("not valid JSON",)),
    ],
)
def test_weights_that_are_not_read(
    tmp_path: Path, content: bytes, expected: tuple[str, ...]
) -> None:
    (path := tmp_path / "x.safetensors").write_bytes(content)
    check(lambda: SafetensorsFile(path), str(path), *expected)


def test_a_header_beyond_all_reason(tmp_path: Path) -> None:
    """A sparse file: nothing of it is read but its length."""
    path = tmp_path / "x.safetensors"
    with path.open("wb") as stream:
        stream.write(length(200_000_000))
        stream.truncate(300_000_000)
    check(lambda: SafetensorsFile(path), "a header of 200000000 bytes; at most 100000000", DAMAGED)


def test_an_index_that_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    path = tmp_path / "model.safetensors.index.json"
    for content, said in (
        ({}, "has no weight_map from tensor names to files"),
        ({"weight_map": {"a": 3}}, "must give a file name for each tensor"),
        ({"weight_map": {"a": "b"}}, "names b, which is missing; fetch it again"),
        ({"weight_map": {"a": "../b"}}, "names the file '../b', which is not inside the directory"),
    ):
        path.write_text(json.dumps(content))
        check(lambda: Checkpoint.open(tmp_path), str(tmp_path), said)


def test_an_integer_that_no_float_holds() -> None:
    check(
        lambda: parse_object(b'{"a": -1' + b"0" * 300 + b"}", "spec.json"),
        "spec.json has an integer of 302 digits; expected at most 300",
    )
    assert parse_object(b'{"a": 1' + b"0" * 299 + b"}", "spec.json") == {"a": 10**299}


def test_a_key_given_twice() -> None:
    check(
        lambda: parse_object(b'{"a": 1, "a": 2}', "spec.json"),
        "spec.json gives the key 'a' twice; expected each key once",
    )


def test_lists_of_audio(tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    wanted = 'expected {"audio": PATH, "text": "..."}'
    check(lambda: read_utterances(path), f"audio list {path} does not exist", '{"audio": PATH')
    for line, expected in (
        ("\n", (f"audio list {path} is empty", '{"audio": PATH')),
        ("{", ("line 1", "not valid JSON", wanted)),
        ('{"audio": 3, "text": "a"}', ("line 1", wanted, "found")),
        ('{"audio": "a", "text": "b", "offset": 2}', ("'offset' takes a part", "cut the file")),
        ('{"audio": "a\\u0000", "text": "b"}', ("is no name of a file",)),
    ):
        path.write_text(line)
        check(lambda: read_utterances(path), *expected)


def test_what_an_unfinished_run_has_left_and_cannot_be_gone_on_from(tmp_path: Path) -> None:
    state = tmp_path / "unfinished.json"
    for field, value in (("records", []), ("seconds", ["a"]), ("files", ["../x"])):
        Journal().save(tmp_path)
        state.write_text(json.dumps(json.loads(state.read_text()) | {field: value}))
        check(
            lambda: Journal.resume(tmp_path),
            f"{state} is damaged",
            f"remove {tmp_path} and run again",
        )
    for array in (np.ones(3, np.int64), np.ones((2, 2))):
        np.save(tmp_path / "unfinished-windows.npy", array)
        check(lambda: load_windows(tmp_path), "where tokens (N, T) should be", "remove it and run")
