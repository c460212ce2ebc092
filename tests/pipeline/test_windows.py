"""Calibration tokens given as an array: refused at once where they are no token windows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lrc import allocate, compress
from lrc.errors import CalibrationError, LrcError, SpecError
from lrc.parts.packed import PackedCheckpoint
from lrc.spec import CompressSpec

IDS = np.arange(64).reshape(2, 32)


@pytest.mark.parametrize(
    ("windows", "error", "message"),
    [
        (IDS[0], CalibrationError, r"windows have shape \(32,\); expected integer token ids"),
        (IDS[:0], CalibrationError, r"windows have shape \(0, 32\)"),
        (IDS[:, :1], CalibrationError, r"windows have shape \(2, 1\)"),
        (IDS[None], CalibrationError, r"windows have shape \(1, 2, 32\)"),
        (IDS.astype(np.float32), CalibrationError, "windows have dtype float32"),
        (IDS > 3, CalibrationError, "windows have dtype bool"),
        ([[1, 2], [3]], CalibrationError, "windows are no array"),
        ("text", CalibrationError, "windows have dtype <U4"),
        (IDS - 1, SpecError, "token ids run from -1 to 62"),
        (IDS + 100_000, SpecError, "token ids run from 100000"),
    ],
    ids=[
        "1-D",
        "none",
        "one token",
        "3-D",
        "float",
        "bool",
        "ragged",
        "text",
        "negative",
        "unknown",
    ],
)
def test_windows_that_are_none_are_refused_before_any_work(
    model: Path, tmp_path: Path, windows: Any, error: type[LrcError], message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def begun(*_: object, **__: object) -> None:
        raise AssertionError("work had begun")

    monkeypatch.setattr(sys.modules["lrc.pipeline.compress"], "atomic_directory", begun)
    monkeypatch.setattr(sys.modules["lrc.allocation.api"], "allocate_in", begun)
    with pytest.raises(error, match=message):
        compress(model, tmp_path / "out", windows=windows)
    with pytest.raises(error, match=message):
        allocate(model, target_bpw=3.0, windows=windows)
    assert not list(tmp_path.iterdir())


def test_lists_of_tokens_are_windows(model: Path, tmp_path: Path) -> None:
    spec = CompressSpec.from_dict({"decompose": {"recipe": "round-to-nearest"}})
    for name, windows in (("list", IDS.tolist()), ("array", IDS.astype(np.uint8))):
        compress(model, tmp_path / name, spec, windows=windows, threads=1)
    first, second = (PackedCheckpoint.open(tmp_path / name).report for name in ("list", "array"))
    assert first == second
    assert first["calibration"]["tokens"] == 64
