"""Output that is either complete or absent: write beside the target, sync, rename."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lrc.base.lock import LockedFile
from lrc.base.lock import OutputError as OutputError
from lrc.base.partial import PartialDirectory, exists, sync_directory, sync_tree

_WRITE_FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def _nothing(*_: object) -> int:
    return 0


def check_output(path: Path) -> None:
    """Refuse an output that could not be written, before any work is done.

    Raises
    ------
    OutputError
        ``path`` exists, or its parent is missing, is not a directory or is not writable.
    """
    path = Path(path).absolute()
    if os.path.lexists(path):
        raise exists(path)
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: {path.parent} is not a directory; create it first")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


@contextlib.contextmanager
def atomic_directory(
    path: Path,
    *,
    fingerprint: str = "",
    finished: Callable[[Path], int] = _nothing,
    tell: Callable[[str], object] = _nothing,
) -> Iterator[Path]:
    """Give ``NAME.partial`` to write into; on success it becomes ``path``, else it vanishes.

    A partial directory left by a killed run is replaced; one that another process is writing,
    or that something else made, is refused. With a ``fingerprint`` of the job, what is finished
    is kept: the next run with the same fingerprint finds the directory as it was left.

    Parameters
    ----------
    path
        Must not exist.
    fingerprint
        Of everything that decides the bytes; empty for output that is made in one go.
    finished
        How many files in the partial directory need not be made again. Where there are any, the
        directory stays whatever ends the work, and the exception gets a note that says so.
    tell
        Hears of another job's work that is replaced.

    Yields
    ------
    Path
        The directory to write into, beside ``path``.

    Raises
    ------
    OutputError
        See :func:`check_output`; or the disk is full or fails while writing.
    """
    path = Path(path).absolute()
    check_output(path)
    folder = path.with_name(path.name + ".partial")
    with _write_failures(path):
        partial = PartialDirectory.claim(folder, fingerprint, tell)
    try:
        with _write_failures(path):
            if os.path.lexists(path):  # made while we claimed
                raise exists(path)
            yield folder
            sync_tree(folder)
            partial.become(path)
    except BaseException as error:
        if not (fingerprint and partial.is_ours() and _stays(folder, finished, error)):
            partial.discard()
        raise
    finally:
        partial.close()


def _stays(folder: Path, finished: Callable[[Path], int], error: BaseException) -> bool:
    """Whether ``folder`` holds something worth keeping; if so, ``error`` gets a note of it."""
    try:
        count = finished(folder)
    except Exception:  # damaged: whoever reads the error that says so decides
        return True
    if count:
        files = "1 finished file" if count == 1 else f"{count} finished files"
        error.add_note(f"{folder} keeps the {files}; the same command goes on from there")
    return count > 0


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Replace the file ``path`` by ``content`` in one step.

    Raises
    ------
    OutputError
        The file cannot be written, or another process is writing it.
    """
    path = Path(path).absolute()
    try:
        with LockedFile.take(path.with_name(path.name + ".partial")) as partial:
            try:
                partial.write(content)
                partial.close_where_open_files_stay()
                os.replace(partial.path, path)
                sync_directory(path.parent)
            except BaseException:
                if partial.is_current():
                    with contextlib.suppress(OSError):
                        partial.remove()
                raise
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


def atomic_write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented UTF-8 JSON in one step; see :func:`atomic_write_bytes`."""
    atomic_write_bytes(path, json_bytes(value))


def json_bytes(value: Any, *, infinite: bool = False) -> bytes:
    """Indented UTF-8 JSON with a final newline, keys in the order given.

    ``infinite``: numbers that JSON lacks are written as Python spells them, instead
    of being refused; for files whose readers are known to take them.
    """
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=infinite) + "\n").encode()


@contextlib.contextmanager
def _write_failures(path: Path) -> Iterator[None]:
    """Turn a full or failing disk into one clear error."""
    try:
        yield
    except OSError as error:
        if error.errno in _WRITE_FAILURES:
            raise OutputError(
                f"cannot write {path}: {error.strerror}; free some space or choose another disk"
            ) from error
        raise
