"""What the two streams are asked to do reaches the matrices, or is said to do nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lrc.parts.packed import PackedCheckpoint
from lrc.spec import CalibrationSpec

NAME = "model.layers.0.mlp.down_proj"
Lrc = Callable[..., Any]
QUICK = ("--codebook", "e8p", "--rank", 0, "--nsamples", 4, "--seqlen", 48, "--threads", 1)


@pytest.mark.parametrize(
    ("options", "unused"),
    [
        ((), ()),
        (("--mix", 0, "--repair", 0), ()),
        (("--mix", 0.7), ("mix 0.7",)),
        (("--mix", 0.7, "--repair", 1), ("mix 0.7", "repair 1")),
    ],
)
def test_what_one_stream_does_not_use_is_on_record(
    lrc: Lrc, model: Path, text: Path, tmp_path: Path,
    options: tuple[object, ...], unused: tuple[str, ...],
) -> None:  # fmt: skip
    out = tmp_path / "out"
    told = lrc("compress", model, "-o", out, "--calib", text, *QUICK, "--streams", "original",
               "--json", *options).check()  # fmt: skip
    notes = [w for w in PackedCheckpoint.open(out).report["warnings"] if "not used" in w]
    assert notes == ([f"streams original alone: {', '.join(unused)} not used"] if unused else [])
    assert all(note in told.err for note in notes)


def test_two_streams_use_everything() -> None:
    assert CalibrationSpec(mix=0.7, repair=1.0).unused() == ()


@pytest.mark.parametrize("option", ["--mix", "--repair"])
def test_the_strength_of_a_correction_reaches_the_matrices(
    lrc: Lrc, model: Path, text: Path, tmp_path: Path, option: str
) -> None:
    """Each doubling moves what is fitted further from the weights themselves.

    The matrix that is looked at is coded finely, behind coarse ones, so that what it is fitted to
    shows.
    """
    other = {"--mix": "--repair", "--repair": "--mix"}[option]
    config = tmp_path / "fine.json"
    fine = {"quant": {"codebook": "uniform", "bits": 8}, "low_rank": {"rank": 0}}
    config.write_text(json.dumps({"matrices": {NAME: fine}}))
    far = []
    for strength in (0, 0.25, 0.5, 1):
        out = tmp_path / str(strength)
        lrc("compress", model, "-o", out, "--calib", text, *QUICK, other, 0, option, strength,
            "--config", config, "--quiet").check()  # fmt: skip
        records = PackedCheckpoint.open(out).report["matrices"]
        far.append(records[f"{NAME}.weight"]["weight_error"])
    assert far[0] < far[1] < far[2] < far[3]
