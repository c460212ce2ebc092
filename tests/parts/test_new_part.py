"""A new kind of part is its class and a row: it is stored, run, exported and shown."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from packed_golden import GOLDEN, copied
from toy_parts import Sparse

from lrc.cli.main import main
from lrc.convert.hf import export_hf
from lrc.errors import FormatError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.formats.safetensors.writing import write_safetensors
from lrc.measure.storage import storage
from lrc.models import load_model
from lrc.nn.engine.team import Team
from lrc.parts import PARTS
from lrc.parts.packed import MANIFEST, PackedCheckpoint, matrix_record, matrix_tensors
from lrc.run.generate import Decoder
from lrc.run.load import load
from lrc.testing.tolerance import assert_within, factor_bound, relative_difference

CHANGED = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The golden model with a third part in one of its matrices."""
    monkeypatch.setitem(PARTS, "sparse", Sparse)
    folder = copied(tmp_path)
    matrix = PackedCheckpoint.open(GOLDEN).linear(CHANGED)
    parts = (*matrix.parts, Sparse.random(matrix.shape, 50))
    matrix = dataclasses.replace(matrix, parts=parts)
    path = folder / "block-00000.safetensors"
    file = SafetensorsFile(path)
    tensors = {name: np.array(file.read(name)) for name in file.names}
    write_safetensors(path, tensors | matrix_tensors(CHANGED, matrix), file.metadata)
    manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    manifest["matrices"][CHANGED] |= matrix_record(matrix)
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def test_it_is_read_and_counted(folder: Path) -> None:
    opened, golden = PackedCheckpoint.open(folder), PackedCheckpoint.open(GOLDEN)
    matrix, before = opened.linear(CHANGED), golden.linear(CHANGED)
    expected = before.rows(slice(0, 40)) + matrix.terms[2].rows(np.arange(40))
    np.testing.assert_array_equal(matrix.rows(slice(0, 40)), expected)
    assert opened.stored_bytes(CHANGED) == golden.stored_bytes(CHANGED) + 50 * (2 * 2 + 2)
    assert storage(opened)["bits_per_weight_linear"] > storage(golden)["bits_per_weight_linear"]


def test_it_runs_on_the_blocks(folder: Path) -> None:
    model = load(folder).model
    assert model.engines().decode(Team(1)) is None
    assert load(GOLDEN).model.engines().decode(Team(1)) is not None
    ids = np.arange(40, 48)
    expected = model.logits(ids[None])[0]
    decoder = Decoder(model, len(ids))
    found = np.stack([decoder.advance(ids[i : i + 1]).copy() for i in range(len(ids))])
    assert_within(relative_difference(found, expected), factor_bound(100, np.float32))
    assert relative_difference(load(GOLDEN).model.logits(ids[None])[0], expected) > 1e-3


def test_it_is_exported(folder: Path, tmp_path: Path) -> None:
    dense = Checkpoint.open(export_hf(folder, tmp_path / "hf"))
    expected = PackedCheckpoint.open(folder).dense(CHANGED)
    np.testing.assert_array_equal(dense.dense(CHANGED), expected.astype(np.float16))
    ids = np.arange(40, 48)[None]
    difference = relative_difference(load_model(dense).logits(ids), load(folder).model.logits(ids))
    assert_within(difference, 2.0**-7)


def test_inspect_says_what_it_is_and_that_it_is_slow(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(folder)]) == 0
    told = capsys.readouterr().out
    assert "e8p 2 + rank 2 + 50 alone" in told
    assert "runs on: NumPy blocks (matrices of e8p 2 + rank 2 + 50 alone)" in told
    assert main(["inspect", str(GOLDEN)]) == 0
    assert "runs on: compiled engine" in capsys.readouterr().out


def test_a_library_without_it_refuses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(PARTS, "sparse")
    with pytest.raises(FormatError, match=r"part 2 of .* is of kind 'sparse'"):
        PackedCheckpoint.open(folder)
