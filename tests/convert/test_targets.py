"""Laws of every target of export: one that joins the table inherits them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tiny
from make_integers_golden import source
from packed_golden import GOLDEN

from lrc.base.atomic import OutputError
from lrc.convert import TARGETS, export
from lrc.errors import FormatError, SpecError

every = pytest.mark.parametrize("target", TARGETS)
#: Models of those that do not take every one.
MODELS = {name: source(name) for name in ("compressed-tensors", "gptq")}


def contents(path: Path) -> dict[str, bytes]:
    """Bytes of files by name; of a target that is one file, whatever that is called."""
    if path.is_file():
        return {"": path.read_bytes()}
    return {file.name: file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@every
def test_a_compressed_model_is_written_whole_and_alike_each_time(target, tmp_path):
    told, notes = [], []
    model = MODELS.get(target, GOLDEN)
    if target == "gguf":
        model = shutil.copytree(model, tmp_path / "model")
        tiny.add_merge(model)
    first = export(
        model, tmp_path / "first", target, progress=lambda *at: told.append(at), note=notes.append
    )
    assert first.exists()
    assert told[-1][1] == told[-1][2] > 0
    assert all(isinstance(note, str) for note in notes)
    before = contents(model)
    second = export(model, tmp_path / "second", target)
    assert contents(second).keys() == contents(first).keys() != set()
    assert contents(first) == contents(second)
    assert contents(model) == before


@every
def test_what_is_there_stays(target, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("kept")
    with pytest.raises(OutputError, match="exists already"):
        export(GOLDEN, out, target)
    assert contents(out) == {"mine": b"kept"}


@every
def test_no_model_leaves_nothing(target, tmp_path):
    with pytest.raises(FormatError):
        export(tmp_path / "nothing", tmp_path / "out", target)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_target_is_named_with_those_that_are_known(tmp_path):
    with pytest.raises(SpecError, match="'gguf9' is unknown; use one of hf"):
        export(GOLDEN, tmp_path / "out", "gguf9")
