"""What the commands do with text in other shapes, and with more tokens than a model's context."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

import lrc as library
from lrc.errors import SpecError
from lrc.spec import CalibrationSpec, CompressSpec, DecomposeSpec, LowRankSpec

Lrc = Callable[..., Any]
QUICK = ("--rank", "0", "--recipe", "round-to-nearest", "--bits", "4", "--threads", "1", "--quiet")


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a context of 64."""
    folder = tmp_path_factory.mktemp("short") / "model"
    return tiny.write_model(folder, max_position_embeddings=64)


def refused(outcome: Any, *said: str) -> None:
    assert outcome.code == 1
    assert outcome.err.startswith("lrc: error: "), outcome.err
    assert "this is a bug" not in outcome.err
    for words in said:
        assert words in outcome.err, outcome.err


def test_what_was_calibrated_on_is_recorded_and_shown(
    lrc: Lrc, model: Path, text: Path, tmp_path: Path
) -> None:
    lines = tmp_path / "b.JSONL"
    records = [{"text": tiny.TEXT}, {"text": None}, {"text": "bad \ud83d half"}]
    content = "".join(json.dumps(record) + "\r\n" for record in records)
    lines.write_bytes(b"\xef\xbb\xbf" + content.encode())
    options = ("--calib", text, lines, "--nsamples", 40, "--seqlen", 64, *QUICK)
    out = tmp_path / "out"
    shown = lrc("compress", model, "-o", out, *options).check()
    assert "calibrated on 40 windows of 64 tokens: " in shown.out
    found = json.loads((out / "lrc.json").read_text())["calibration"]
    assert (found["source"], found["windows"], found["window_tokens"]) == ("files", 40, 64)
    first, second = found["files"]
    assert (first["file"], second["file"]) == (str(text), str(lines))
    assert first["tokens"] + second["tokens"] == found["tokens"] == 40 * 64
    assert 0.3 < first["tokens"] / found["tokens"] < 0.7
    assert (second["skipped_records"], second["replaced_characters"]) == (1, 1)
    assert "records of" in shown.out
    assert "left out" in shown.out


def test_text_that_the_model_wrote_and_windows_that_were_given_are_told(
    short: Path, tmp_path: Path
) -> None:
    spec = CompressSpec(
        decompose=DecomposeSpec(recipe="round-to-nearest", low_rank=LowRankSpec(0)),
        calibration=CalibrationSpec(nsamples=3),
    )
    report = library.compress(short, tmp_path / "a", spec, threads=1)
    written = {"source": "written by the model", "windows": 3, "window_tokens": 64}
    assert report.calibration == {"tokens": 192, "dropped_rows": 0, **written}
    assert report.spec.calibration.seqlen == 64
    assert any("64 tokens long, the model's whole context" in w for w in report.warnings)
    ids = np.random.default_rng(1).integers(0, 250, (3, 32))
    given = library.compress(short, tmp_path / "b", spec, windows=ids, threads=1)
    assert given.calibration["source"] == "given by the caller"
    assert given.warnings == ()
    with pytest.raises(SpecError, match="65 tokens exceed the model's context of 64"):
        library.compress(short, tmp_path / "c", spec, windows=np.zeros((2, 65), int))
    with pytest.raises(SpecError, match="65 tokens exceed the model's context of 64"):
        library.allocate(short, spec, target_bpw=3, windows=np.zeros((2, 65), int))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", '[{"text": "a"}]', "a.json is .json, and plain text or .jsonl is read"),
        ("a.parquet", "PAR1", "a.parquet is .parquet"),
        (
            "a.jsonl",
            '{"text": "a"}\n{"messages": []}\n',
            "line 2: expected an object with a string",
        ),
        ("folder", None, "folder is a directory; name the text files in it"),
    ],
)
def test_other_shapes_are_refused_by_name(
    lrc: Lrc, model: Path, tmp_path: Path, name: str, content: str | None, said: str
) -> None:
    path = tmp_path / name
    if content is None:
        path.mkdir()
    else:
        path.write_text(content)
    refused(lrc("compress", model, "-o", tmp_path / "out", "--calib", path, *QUICK), said)
    refused(lrc("eval", model, "--text", path, "--quiet"), said)
    assert not (tmp_path / "out").exists()


def test_windows_beyond_the_context_are_refused(
    lrc: Lrc, short: Path, text: Path, tmp_path: Path
) -> None:
    common = ("--calib", text, *QUICK, "-o", tmp_path / "out")
    refused(lrc("compress", short, "--seqlen", 65, *common), "seqlen=65", "context of 64")
    refused(lrc("eval", short, "--text", text, "--ctx", 65, "--quiet"), "--ctx 65", "64")
    refused(
        lrc("generate", short, "-p", "abcd", "--max-tokens", 61, "--quiet"), "--max-tokens 61", "60"
    )
    refused(lrc("generate", short, "-p", "a" * 64, "--quiet"), "--max-tokens 128", "used up")
    refused(lrc("bench", short, "--prompt", 65, "--quiet"), "--prompt 65", "64")
    refused(lrc("bench", short, "--prompt", 8, "--tokens", 49, "--quiet"), "--tokens 49", "48")
    assert not (tmp_path / "out").exists()


def test_lengths_that_nobody_chose_keep_within_the_context(
    lrc: Lrc, short: Path, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shown = lrc("compress", short, "-o", out, "--calib", text, "--nsamples", 4, *QUICK).check()
    assert "calibrated on 4 windows of 64 tokens" in shown.out
    assert "warning: calibration windows are 64 tokens long" in shown.out
    evaluated = lrc("eval", short, "--text", text, "--windows", 2, "--json").check()
    assert evaluated.json["ctx"] == 64
    assert evaluated.json["tokens"] == 64
    assert "--ctx 64: the model's context has no room for 512" in evaluated.err
    written = lrc("generate", short, "-p", "abcd", "--temp", 0, "--json").check()
    assert written.json["max_tokens"] == 60
    assert "--max-tokens 60: the model's context has no room for 128" in written.err
    timed = lrc("bench", short, "--repeats", 1, "--json", "--quiet").check()
    assert (timed.json["prompt"], timed.json["tokens"]) == (64, 48)


def test_what_is_no_text_in_a_prompt_is_read_as_such(lrc: Lrc, model: Path) -> None:
    lrc("generate", model, "-p", "a\udcff", "--max-tokens", 2, "--quiet").check()


def test_eval_says_which_activations_it_used(
    lrc: Lrc, model: Path, packed: Path, text: Path
) -> None:
    common = ("--text", text, "--ctx", 32, "--windows", 2, "--quiet")
    by_default = lrc("eval", packed, *common, "--json").check().json
    exact = lrc("eval", packed, *common, "--json", "--activations", "f32").check().json
    assert (by_default["activations"], exact["activations"]) == ("i8", "f32")
    assert by_default["perplexity"] != exact["perplexity"]
    assert by_default["perplexity"] == pytest.approx(exact["perplexity"], rel=0.05)
    assert lrc("eval", model, *common, "--json").check().json["activations"] == "f32"
    shown = lrc("eval", packed, *common).check().out
    assert [line.split() for line in shown.splitlines() if "activations" in line] == [
        ["activations", "i8"]
    ]
