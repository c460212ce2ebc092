"""``bench/quality.py`` from the command line to its files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_gguf

import lrc

BENCH = Path(__file__).resolve().parents[2] / "bench"
SETTING = "e8p:2,rank=2,seqlen=48"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCH / "quality.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, its quantized GGUF file, and two texts."""
    folder = tmp_path_factory.mktemp("quality")
    lrc.import_gguf(tiny_gguf.write(folder / "f16.gguf", kind=tiny_gguf.F16), folder / "model")
    tiny_gguf.write(folder / "small.gguf", kind=tiny_gguf.Q4_1)
    (folder / "seen.txt").write_text(" ".join(f"a{i * i}" for i in range(400)))
    (folder / "test.txt").write_text(" ".join(f"b{7 * i}" for i in range(400)))
    return folder


def test_every_kind_of_row_is_written_and_models_are_kept(folder: Path) -> None:
    options = (
        *(folder / "model", "--calib", folder / "seen.txt", "--text", folder / "test.txt"),
        *("--windows", 3, 5, "--ctx", 48, "--nsamples", 4, "--threads", 1),
        *("--work", folder / "work"),
    )
    files = ("--out", folder / "rows.jsonl", "--markdown", folder / "rows.md")
    more = ("--settings", SETTING, "no-such:2", "--gguf", folder / "small.gguf")
    done = run(*options, *files, *more)
    assert done.returncode == 1, done.stderr
    environment, original, row, failed, gguf = written(folder / "rows.jsonl")
    assert environment["case"] == "environment"
    assert original["kl_divergence"] is None
    assert original["bits_per_weight_linear"] == 16
    assert "no-such" in failed["error"]
    assert gguf["types"] == {"Q4_1": 14}
    assert gguf["bits_per_weight_linear"] == 5
    assert gguf["file_bytes"] == (folder / "small.gguf").stat().st_size
    for record in (row, gguf):
        low, high = record["kl_interval"]
        assert 0 < low <= record["kl_divergence"] <= high
        assert [(m["text"], m["windows"]) for m in record["more"]] == [
            ("test.txt", 5),
            ("Python's help", 3),
        ]
        assert len(record["window_kl"]) == 5
        assert sum(record["window_kl"][:3]) / 3 == pytest.approx(record["kl_divergence"])
    assert row["seconds"] > 0
    assert row["peak_rss_bytes"] > 1e7
    assert not row["reused"]
    assert SETTING in (folder / "rows.md").read_text()

    again = ("--settings", SETTING, "--out", folder / "again.jsonl")
    assert run(*options, *again).returncode == 0
    second = written(folder / "again.jsonl")[-1]
    assert second["reused"]
    assert second == row | {"reused": True}

    targets = ("bpw:3,preset=fast,seqlen=48", "bpw:3.4,preset=fast,seqlen=48")
    chosen = ("--share-surveys", "--settings", *targets, "--out", folder / "chosen.jsonl")
    assert run(*options, *chosen).returncode == 0
    first, second = written(folder / "chosen.jsonl")[-2:]
    assert (first["surveyed_before"], second["surveyed_before"]) == (False, True)
    assert first["bits_per_weight_linear"] <= 3 < second["bits_per_weight_linear"] <= 3.4


def test_calibration_text_is_refused_for_judging(folder: Path) -> None:
    out = folder / "never.jsonl"
    given = (folder / "model", "--calib", folder / "seen.txt", "--text", folder / "seen.txt")
    done = run(*given, "--settings", SETTING, "--out", out)
    assert done.returncode == 1
    assert "seen.txt are in the calibration file" in done.stderr
    assert "Traceback" not in done.stderr
