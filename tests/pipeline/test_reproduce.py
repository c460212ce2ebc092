"""`lrc reproduce`: the stored spec gives the same bytes, and what differs is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny

import lrc as library
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.formats.safetensors.writing import write_safetensors
from lrc.parts.manifest import read_manifest, write_manifest
from lrc.refine.options import TuneSpec
from lrc.refine.tune import tune

Lrc = Callable[..., Any]


@pytest.fixture
def copy(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "copy"))


def test_the_same_bytes_on_another_number_of_threads(lrc: Lrc, copy: Path, model: Path) -> None:
    said = lrc("reproduce", copy, "--original", model, "--threads", 2, "--quiet").check().out
    assert f"{copy}: made again, all 8 files and the report alike" in said
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def test_what_a_budget_chose_is_made_again(
    lrc: Lrc, model: Path, text: Path, fast: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    lrc("compress", model, "-o", out, "--calib", text, *fast, "--target-bpw", 4).check()
    lrc("reproduce", out, "--original", model, "--quiet").check()


def test_what_was_tuned_until_a_clock_said_stop_is_made_again(
    lrc: Lrc, copy: Path, model: Path, text: Path
) -> None:
    spec = TuneSpec(
        files=(str(text),), tokens=256, held_out=2, seqlen=32, rate=0.003, checks=4, what=("norms",)
    )
    report = tune(copy, model, spec, threads=1, stop=lambda step: step >= 2)
    assert (report.steps, report.stored) == (2, True)
    assert not copy.with_name("copy.tuning").exists()
    said = lrc("reproduce", copy, "--original", model, "--threads", 1, "--quiet").check().out
    assert "made again, all 8 files and the report alike" in said
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def test_what_differs_is_named_and_stays(lrc: Lrc, copy: Path, model: Path) -> None:
    file = SafetensorsFile(copy / "block-00001.safetensors")
    tensors = {name: np.array(file.read(name)) for name in file.names}
    name = "model.layers.1.mlp.up_proj.weight"
    tensors[f"{name}.gain"] *= 2
    write_safetensors(file.path, tensors, file.metadata)
    manifest = read_manifest(copy)
    manifest["matrices"][name]["relative_error"] = 0.5
    write_manifest(copy, manifest | {"library": "lrc-llm 0.0.9"})
    outcome = lrc("reproduce", copy, "--original", model, "--quiet")
    assert outcome.code == 1
    assert "block-00001.safetensors is another" in outcome.err
    assert f"matrices of the report is another: {name}" in outcome.err
    assert "block-00000" not in outcome.err
    assert "it was written by lrc-llm 0.0.9, and this is" in outcome.out
    assert f"what was made now lies in {copy}.reproduced" in outcome.out
    assert lrc_load(copy.with_name("copy.reproduced"))
    again = lrc("reproduce", copy, "--original", model, "--quiet")
    assert again.code == 1
    assert "exists already; name a new one or remove it" in again.err


def lrc_load(path: Path) -> bool:
    return library.load(path).model is not None


def test_what_cannot_be_made_again_is_said_at_once(
    lrc: Lrc, copy: Path, model: Path, tmp_path: Path
) -> None:
    assert (
        "was made from a directory, and where that lies is not stored" in lrc("reproduce", copy).err
    )
    other = tiny.write_model(tmp_path / "other", seed=5)
    assert f"was not made from {other}" in lrc("reproduce", copy, "--original", other).err
    manifest = read_manifest(copy)
    write_manifest(copy, manifest | {"tuned": [{"steps": 3}]})
    told = lrc("reproduce", copy, "--original", model).err
    assert "was tuned for some minutes, or by an older version" in told
    assert "reproduce a directory that was tuned without --minutes, or not at all" in told
    given = manifest["calibration"] | {"source": "given by the caller"}
    write_manifest(copy, manifest | {"calibration": given})
    assert "token windows that a program gave" in lrc("reproduce", copy, "--original", model).err
    assert not copy.with_name("copy.reproduced").exists()
