"""The layout of the Hugging Face cache: what may link into blobs, and which snapshot is meant."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

import lrc
from lrc.errors import FormatError
from lrc.formats.hub_cache import snapshot_in
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.side_files import contained


def cached(repository: Path, revision: str = "abc123", below: str = "") -> Path:
    """A model in a snapshot, or a folder below it, every file a link into blobs."""
    model = tiny.write_model(repository / "snapshots" / revision / below)
    blobs = repository / "blobs"
    blobs.mkdir(exist_ok=True)
    up = Path(*[".."] * (2 + len(Path(below).parts)))
    for path in list(model.iterdir()):
        path.replace(blobs / path.name)
        path.symlink_to(up / "blobs" / path.name)
    return model


@pytest.mark.parametrize("below", ["", "sub", "a/b/c", "snapshots/x"])
def test_all_below_a_snapshot_links_into_blobs(tmp_path: Path, below: str) -> None:
    model = cached(tmp_path / "models--o--n", below=below)
    loaded = lrc.load(model)
    assert loaded.model.config.layers == 2
    assert {path.name for path in loaded.source.other_files()} >= {"tokenizer.json"}


def test_folders_below_a_given_snapshot_link_too(tmp_path: Path) -> None:
    model = cached(tmp_path / "models--o--n", below="sub")
    assert contained(model.parent, "sub/config.json") == model / "config.json"


@pytest.mark.parametrize(
    "target", ["secret", "refs/main", "snapshots/other/secret", "../models--o--m/blobs/secret"]
)
def test_nothing_but_the_blobs_of_that_repository(tmp_path: Path, target: str) -> None:
    repository = tmp_path / "models--o--n"
    model = cached(repository, below="sub")
    secret = repository / target
    secret.parent.mkdir(parents=True, exist_ok=True)
    secret.write_text("x")
    (model / "notes.txt").symlink_to(secret)
    with pytest.raises(FormatError, match="leads out of the directory"):
        Checkpoint.open(model).other_files()


def test_a_repository_with_one_snapshot_stands_for_it(tmp_path: Path) -> None:
    model = cached(tmp_path / "models--o--n")
    for given in (tmp_path / "models--o--n", model.parent, model):
        assert lrc.load(given).path == model


def test_several_snapshots_are_named(tmp_path: Path) -> None:
    repository = tmp_path / "models--o--n"
    for revision in ("aaa", "bbb"):
        (repository / "snapshots" / revision).mkdir(parents=True)
    (repository / "blobs").mkdir()
    with pytest.raises(FormatError, match=r"2 snapshots; .*REVISION: aaa, bbb$"):
        Checkpoint.open(repository)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("bbb\n")
    with pytest.raises(FormatError, match=r"aaa, bbb \(main\)$"):
        lrc.load(repository)


def test_a_repository_without_a_snapshot_says_so(tmp_path: Path) -> None:
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "blobs").mkdir()
    with pytest.raises(FormatError, match="without a snapshot"):
        Checkpoint.open(tmp_path)


def test_other_directories_stand_for_themselves(tmp_path: Path) -> None:
    model = tiny.write_model(tmp_path / "model")
    (model / "snapshots" / "x").mkdir(parents=True)
    assert snapshot_in(model) == model
    (model / "blobs").mkdir()
    assert snapshot_in(model) == model
    assert snapshot_in(tmp_path / "none") == tmp_path / "none"
