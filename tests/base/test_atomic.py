"""Output is complete or absent, whatever interrupts the writing."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from lrc.base import atomic
from lrc.base.atomic import (
    OutputError,
    atomic_directory,
    atomic_write_bytes,
    atomic_write_json,
    check_output,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_directory_appears_only_at_the_end(tmp_path: Path) -> None:
    with atomic_directory(tmp_path / "out") as work:
        (work / "sub").mkdir()
        (work / "sub" / "x").write_text("1")
        assert not (tmp_path / "out").exists()
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["sub"]
    assert (tmp_path / "out" / "sub" / "x").read_text() == "1"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), SystemExit(2)])
def test_nothing_is_left_after_an_exception(tmp_path: Path, error: BaseException) -> None:
    def interrupted() -> None:
        with atomic_directory(tmp_path / "out") as work:
            (work / "x").write_text("1")
            raise error

    with pytest.raises(type(error)):
        interrupted()
    assert names(tmp_path) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_full_disk_is_one_clear_error(tmp_path: Path, code: int) -> None:
    out = tmp_path / "out"
    with (
        pytest.raises(OutputError, match=r"out: .*free some space") as caught,
        atomic_directory(out),
    ):
        raise OSError(code, os.strerror(code))
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


def test_other_os_errors_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_directory(tmp_path / "out"):
        (tmp_path / "none").read_text()
    assert names(tmp_path) == []


def test_failed_rename_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(atomic.os, "rename", refuse)
    with pytest.raises(OutputError, match="broken"), atomic_directory(tmp_path / "out") as work:
        (work / "x").write_text("1")
    assert names(tmp_path) == []


@pytest.mark.parametrize("kind", ["file", "directory", "empty", "dangling"])
def test_existing_output_is_refused_and_kept(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    elif kind == "dangling":
        out.symlink_to(tmp_path / "nowhere")
    else:
        out.mkdir()
        if kind == "directory":
            (out / "x").write_text("mine")
    before = names(tmp_path)
    with pytest.raises(OutputError, match="exists already"), atomic_directory(out):
        pytest.fail("the body must not run")
    assert names(tmp_path) == before


def test_parent_must_be_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for parent in ("none", "file"):
        with pytest.raises(OutputError, match="is not a directory"):
            check_output(tmp_path / parent / "out")


def test_unwritable_parent_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(OutputError, match="Permission denied"):
        check_output(tmp_path / "out")


def test_check_output_leaves_no_trace(tmp_path: Path) -> None:
    check_output(tmp_path / "out")
    assert names(tmp_path) == []


def test_what_a_killed_run_left_is_replaced(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from lrc.base.atomic import atomic_directory\n"
        "with atomic_directory(sys.argv[1]) as work:\n"
        "    (work / 'half').write_text('1')\n"
        "    os._exit(9)\n"
    )
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path / "out")], check=False)
    assert run.returncode == 9
    assert names(tmp_path) == ["out.partial"]
    with atomic_directory(tmp_path / "out") as work:
        (work / "x").write_text("2")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["x"]


def test_a_second_writer_is_refused_and_the_first_finishes(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with atomic_directory(tmp_path / "out") as work:
        (work / "x").write_text("1")
        with (
            pytest.raises(OutputError, match="another process"),
            atomic_directory(tmp_path / "out"),
        ):
            pytest.fail("the body must not run")
    assert names(tmp_path / "out") == ["x"]


def test_a_strangers_partial_directory_is_not_deleted(tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "mine").write_text("1")
    with pytest.raises(OutputError, match="in the way"), atomic_directory(tmp_path / "out"):
        pytest.fail("the body must not run")
    assert names(tmp_path / "out.partial") == ["mine"]


def test_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "f"
    atomic_write_bytes(path, b"old")
    atomic_write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["f"]


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    atomic_write_bytes(tmp_path / "f", b"old")

    def refuse(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", refuse)
    with pytest.raises(OutputError, match="No space left"):
        atomic_write_bytes(tmp_path / "f", b"new")
    assert (tmp_path / "f").read_bytes() == b"old"
    assert names(tmp_path) == ["f"]


def test_json_is_utf8_and_refuses_nan(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None], "a": "µ"}
    atomic_write_json(tmp_path / "f", value)
    assert json.loads((tmp_path / "f").read_text("utf-8")) == value
    assert "µ" in (tmp_path / "f").read_text("utf-8")
    with pytest.raises(ValueError, match="not JSON compliant"):
        atomic_write_json(tmp_path / "g", float("nan"))
    assert names(tmp_path) == ["f"]
