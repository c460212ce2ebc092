"""One run each of the scripts that measure quality, as small as they go."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
import tiny

BENCH = Path(__file__).resolve().parent


def records() -> list[dict[str, Any]]:
    """One record a script.

    Raises
    ------
    AssertionError
        A script did not give what it should.
    """
    with tempfile.TemporaryDirectory() as folder:
        return [quality(Path(folder)), synthetic(), scale()]


def quality(folder: Path) -> dict[str, Any]:
    """A tiny random model at 2 bits: larger than nothing, smaller than the original."""
    model = tiny.write_model(folder / "model")
    calibration = tiny.write_text(folder / "calibration.txt")
    text = folder / "text.txt"
    text.write_text(" ".join(f"word {i} of {7 * i % 11} others" for i in range(100)))
    out = folder / "rows.jsonl"
    start = time.perf_counter()
    _run(
        "quality.py", str(model), "--calib", str(calibration), "--text", str(text),
        "--settings", "e8p:2,rank=2,seqlen=64", "--nsamples", "4", "--windows", "3",
        "--ctx", "64", "--out", str(out),
    )  # fmt: skip
    _, original, row = (json.loads(line) for line in out.read_text().splitlines())
    low, high = row["kl_interval"]
    assert 0 < low <= row["kl_divergence"] <= high
    assert row["file_bytes"] < original["file_bytes"]
    return _record("quality.py", start, kl_divergence=row["kl_divergence"])


def synthetic() -> dict[str, Any]:
    """A matrix of 64 columns with and without low rank."""
    start = time.perf_counter()
    lines = _run("synthetic.py", "--size", "64", "--settings", "e8p:2", "--ranks", "0", "4")
    _, plain, more = (json.loads(line) for line in lines.splitlines())
    assert 0 < more["relative_error"] < plain["relative_error"] < 0.5
    return _record("synthetic.py", start, relative_error=plain["relative_error"])


def scale() -> dict[str, Any]:
    """A checkpoint of two small blocks."""
    start = time.perf_counter()
    shape = ("--hidden", "64", "--inner", "96", "--heads", "2", "--tokens", "512")
    found = json.loads(_run("scale.py", *shape).splitlines()[-1])
    assert found["blocks"] == 2
    assert 0 < found["seconds_per_block"] < found["seconds"]
    return _record("scale.py", start, peak_rss_gib=found["peak_rss_gib"])


def _record(case: str, start: float, **figures: float) -> dict[str, Any]:
    return {"case": case, "seconds": round(time.perf_counter() - start, 1), **figures}


def _run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(BENCH / script), *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}: {done.stderr}"
    return done.stdout
