"""Sizes of compressed models: from what lies on disk, whatever the manifest claims."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packed_cases import random_matrix
from packed_golden import GOLDEN, copied

from lrc.cli.main import main
from lrc.formats.safetensors.writing import write_safetensors
from lrc.measure.storage import storage
from lrc.parts.packed import (
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    PackedCheckpoint,
    matrix_record,
    matrix_tensors,
)


@pytest.fixture(scope="module")
def golden() -> PackedCheckpoint:
    return PackedCheckpoint.open(GOLDEN)


def test_sizes_are_those_on_disk(golden: PackedCheckpoint) -> None:
    weights = GOLDEN.glob("*.safetensors")
    stored = storage(golden)
    assert golden.nbytes == stored["file_bytes"] == sum(f.stat().st_size for f in weights)
    linear = [golden.linear(n) for n in golden.names() if n.endswith("_proj.weight")]
    bits = sum(m.stored_bits for m in linear) / sum(np.prod(m.shape) for m in linear)
    assert stored["bits_per_weight_linear"] == pytest.approx(bits, rel=1e-12)
    parameters = sum(int(np.prod(golden.shape(n))) for n in golden.names())
    expected = 8 * golden.nbytes / parameters
    assert stored["bits_per_weight_file"] == pytest.approx(expected, rel=1e-12)
    for name, record in golden.report["matrices"].items():
        assert golden.stored_bytes(name) == golden.linear(name).stored_bits / 8
        assert record["bits_per_weight"] == golden.linear(name).bits_per_weight
    assert golden.stored_bytes("model.norm.weight") == 4 * 24


def test_sizes_that_the_manifest_claims_are_not_believed(
    golden: PackedCheckpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def flatter(manifest: dict[str, Any]) -> None:
        for record in manifest["matrices"].values():
            record["bits_per_weight"] = 0.25
        manifest["source"]["parameters"] *= 8
        manifest |= {"bits_per_weight_linear": 0.25, "bits_per_weight_file": 0.5, "file_bytes": 7}

    folder = copied(tmp_path, flatter)
    edited = PackedCheckpoint.open(folder)
    assert storage(edited) == storage(golden)
    for name, record in edited.report["matrices"].items():
        assert record["bits_per_weight"] == golden.linear(name).bits_per_weight
    told = []
    for model in (GOLDEN, folder):
        assert main(["inspect", str(model)]) == 0
        told.append(capsys.readouterr().out.replace(str(model), ""))
    assert told[0] == told[1]


def many(folder: Path, count: int) -> Path:
    """A model of ``count`` tiny matrices, with a norm beside each."""
    folder.mkdir()
    matrix = random_matrix((1, 8), ("none", 0), rotation="none", rank=0)
    names = [f"model.layers.{i}.mlp.up_proj.weight" for i in range(count)]
    tensors: dict[str, Any] = {
        f"model.layers.{i}.norm": np.ones(1, np.float32) for i in range(count)
    }
    for name in names:
        tensors |= matrix_tensors(name, matrix)
    write_safetensors(folder / "x.safetensors", tensors)
    manifest = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "files": ["x.safetensors"],
        "source": {"parameters": 1},
        "matrices": dict.fromkeys(names, matrix_record(matrix)),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def calls(folder: Path) -> int:
    """Functions called, compiled ones too, to open a model and list its tensors."""
    count = 0

    def tally(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(tally)
    try:
        names = PackedCheckpoint.open(folder).names()
    finally:
        sys.setprofile(None)
    assert len(names) == 2 * len(PackedCheckpoint.open(folder).report["matrices"])
    return count


def test_opening_and_listing_take_time_in_proportion_to_the_tensors(tmp_path: Path) -> None:
    few, more = (calls(many(tmp_path / str(count), count)) for count in (50, 400))
    assert more < 9 * few
