"""``lrc demo`` puts a new model in the place of its own older one, and of nothing else."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dying
import pytest

import lrc.cli.demo.run as demo
from lrc.cli.demo.replace import check_replaceable, remove_replaceable, replace
from lrc.errors import LrcError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.spec import CompressSpec


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def file(folder: Path) -> None:
    folder.write_text("mine")


def link(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    folder.symlink_to(folder.parent / "elsewhere")


def directory(folder: Path) -> None:
    folder.mkdir()
    (folder / "lrc.txt").write_text("mine")


def other_manifest(folder: Path) -> None:
    folder.mkdir()
    (folder / "lrc.json").write_text("{}")


FOREIGN: dict[str, Callable[[Path], None]] = {
    "file": file,
    "link": link,
    "directory": directory,
    "other manifest": other_manifest,
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_compressed_model_stays(model: Path, tmp_path: Path, kind: str) -> None:
    folder, original = tmp_path / "x", Checkpoint.open(model)
    FOREIGN[kind](folder)
    before = contents(tmp_path)
    for act in (check_replaceable, remove_replaceable):
        with pytest.raises(LrcError):
            act(folder, original)
    (tmp_path / "new").mkdir()
    with pytest.raises(LrcError):
        replace(folder, tmp_path / "new", original)
    assert contents(tmp_path) == before
    assert os.path.lexists(folder)


@pytest.mark.parametrize(
    "name", ["notes.txt", "sub/notes.txt", ".notes", "block-00009.safetensors"]
)
def test_a_model_with_a_file_of_someone_else_in_it_stays(
    model: Path, packed: Path, tmp_path: Path, name: str
) -> None:
    folder = tmp_path / "x"
    shutil.copytree(packed, folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("mine")
    before = contents(folder)
    with pytest.raises(LrcError, match="which the demo did not write"):
        remove_replaceable(folder, Checkpoint.open(model))
    assert contents(folder) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_whoever_dies_at_any_step_leaves_an_old_or_a_new_model_or_one_to_remove(
    model: Path, packed: Path, tmp_path: Path
) -> None:
    original = Checkpoint.open(model)

    def die(step: int) -> int:
        folder, by = tmp_path / f"{step}", tmp_path / f"{step}-next"
        shutil.copytree(packed, folder)
        (folder / "additional_chat_templates").mkdir()
        shutil.copytree(packed, by)
        code = dying.killed_at(step, lambda: replace(folder, by, original), tmp_path)
        if by.exists():
            assert contents(by) == contents(packed)
            check_replaceable(folder, original)
            replace(folder, by, original)
        assert contents(folder) == contents(packed)
        return code

    assert dying.steps(die) > 8


@pytest.fixture
def run(
    model: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[float], Any]:
    """The stage of the demo that compresses."""
    shutil.copytree(model, tmp_path / "tiny")

    def compress(mix: float) -> Any:
        spec = CompressSpec.from_dict(
            {
                "decompose": {"low_rank": {"rank": 0}, "iterations": 1},
                "calibration": {"files": [str(text)], "nsamples": 4, "seqlen": 64, "mix": mix},
            }
        )
        stages = demo._Stages(tmp_path / "tiny", 1, demo.SILENT)
        return stages.compress(stages.compressed, spec)

    return compress


def test_the_old_model_is_there_until_the_new_one_is_complete(
    run: Callable[[float], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(0.0)
    old = contents(tmp_path / "tiny-compressed")

    def fail(*_: Any, **__: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["lrc.pipeline.compress"], "compress", fail)
        with pytest.raises(MemoryError):
            run(0.5)
    assert contents(tmp_path / "tiny-compressed") == old
    shutil.copytree(tmp_path / "tiny-compressed", tmp_path / "tiny-compressed-next")
    run(0.5)
    assert contents(tmp_path / "tiny-compressed") != old
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "tiny", "tiny-compressed", "tiny-compressed.json",
    ]  # fmt: skip


def test_a_directory_of_someone_else_is_refused_before_any_work(
    run: Callable[[float], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory(tmp_path / "tiny-compressed")
    before = contents(tmp_path)
    monkeypatch.setattr(sys.modules["lrc.pipeline.compress"], "compress", None)
    with pytest.raises(LrcError, match=r"lrc\.txt, which the demo did not write"):
        run(0.0)
    assert contents(tmp_path) == before


def test_results_of_other_code_are_not_taken(
    run: Callable[[float], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(0.0)
    record = json.loads((tmp_path / "tiny-compressed.json").read_text())
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["lrc.pipeline.compress"], "compress", None)
        run(0.0)
        patch.setattr("lrc.base.fingerprint.code_digest", lambda: "other")
        with pytest.raises(TypeError):
            run(0.0)
    assert json.loads((tmp_path / "tiny-compressed.json").read_text()) == record
