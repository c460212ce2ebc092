"""Every write of the format layer may fail, be interrupted or be short: nothing wrong is left."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import dying
import numpy as np
import pytest
from faulty_disk import FAILURES, HARMLESS, faulty

from lrc.base.atomic import atomic_directory, atomic_write_bytes
from lrc.errors import LrcError
from lrc.formats.safetensors.sharded import write_weights
from lrc.formats.safetensors.writing import TensorSpec, check_written, write_safetensors
from lrc.formats.side_files import copy_side_files
from lrc.parts.manifest import CHECKSUMS, write_manifest
from lrc.pipeline.journal import Journal, save_windows

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")
TENSORS = {"a": np.arange(3000, dtype=np.float32), "b": np.ones((7, 5), np.uint8)}
SPECS = {name: TensorSpec("F32", (300,)) for name in ("x", "y", "z")}


def weights(folder: Path) -> None:
    write_weights(folder, SPECS, lambda _: np.ones(300, np.float32), max_shard_bytes=1300)


def side_files(folder: Path) -> None:
    sources = [folder.parent / "one.json", folder.parent / "two.json"]
    for source in sources:
        source.write_bytes(b"x" * 20_000)
    copy_side_files(folder.parent, sources, folder)


JOBS: dict[str, Callable[[Path], object]] = {
    "safetensors": lambda folder: write_safetensors(folder / "a.safetensors", TENSORS),
    "shards": weights,
    "side files": side_files,
    "manifest": lambda folder: write_manifest(folder, {"a": 1, CHECKSUMS: {"x": "0" * 64}}),
    "journal": lambda folder: Journal(files=["a"]).save(folder),
    "windows": lambda folder: save_windows(folder, np.ones((3, 400), np.int64)),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def written(job: Callable[[Path], object], out: Path) -> None:
    with atomic_directory(out) as folder:
        job(folder)


def what_is_said(job: Callable[[Path], object], out: Path) -> str | None:
    """Of a job that the disk fails: one line; None where it came through."""
    try:
        written(job, out)
    except LrcError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("kind", FAILURES)
def test_a_failed_write_is_one_clear_error_and_leaves_nothing(
    tmp_path: Path, name: str, kind: str
) -> None:
    written(JOBS[name], tmp_path / "whole")
    for at in range(1, 200):
        out = tmp_path / f"out-{at}"
        with faulty(tmp_path, kind, at) as fault:
            said = what_is_said(JOBS[name], out)
        if not fault.happened:
            break
        if said is None:  # only a directory could not be synced, which is allowed to fail
            assert contents(out) == contents(tmp_path / "whole"), at
        else:
            assert os.strerror(FAILURES[kind]) in said, at
            assert not out.exists()
        assert not (tmp_path / f"out-{at}.partial").exists()
    assert at > 5


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("kind", HARMLESS)
def test_an_interrupted_or_short_write_goes_on(tmp_path: Path, name: str, kind: str) -> None:
    written(JOBS[name], tmp_path / "whole")
    for at in range(1, 100):
        out = tmp_path / f"out-{at}"
        with faulty(tmp_path, kind, at) as fault:
            written(JOBS[name], out)
        assert contents(out) == contents(tmp_path / "whole"), at
        if not fault.happened:
            break
    assert at > 1 or kind == "interrupted"  # with `os.write` Python itself goes on


def test_a_replaced_file_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "f"
    for kind in FAILURES:
        for at in range(1, 20):
            path.write_bytes(b"old")
            with faulty(tmp_path, kind, at) as fault:
                try:
                    atomic_write_bytes(path, b"new")
                except LrcError:
                    assert path.read_bytes() == b"old"
                else:
                    assert path.read_bytes() == b"new"
            assert [p.name for p in tmp_path.iterdir()] == ["f"]
            if not fault.happened:
                break
        assert at > 2


@pytest.mark.parametrize("kind", FAILURES)
def test_a_job_that_met_a_failing_disk_goes_on_to_the_same_bytes(tmp_path: Path, kind: str) -> None:
    for at in range(1, 60):
        out = tmp_path / f"out-{at}"
        with faulty(tmp_path, kind, at) as fault:
            try:
                dying.make(out, "job")
            except LrcError:
                assert not out.exists()
        if not out.exists():
            dying.make(out, "job")
        assert dying.names(out) == dying.EVERYTHING
        assert not out.with_name(out.name + ".partial").exists()
        if not fault.happened:
            break
    assert at > 5


def test_the_disk_is_faulty(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with faulty(tmp_path, "full", 1), pytest.raises(OSError) as caught:
        path.write_bytes(b"abc")
    assert caught.value.errno == errno.ENOSPC
    with faulty(tmp_path, "short", 1) as fault:
        path.write_bytes(b"abcdef")
    assert (path.read_bytes(), fault.count) == (b"abcdef", 2)
    check = tmp_path / "y.safetensors"
    write_safetensors(check, TENSORS)
    check_written(check, TENSORS)
