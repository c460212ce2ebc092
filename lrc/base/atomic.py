"""Output that is either complete or absent: write beside the target, sync, rename."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lrc.errors import LrcError

try:
    import fcntl
except ImportError:  # no flock on this platform: a second writer is not noticed
    fcntl = None  # type: ignore[assignment]

_MARKER = ".lrc-writing"
_WRITE_FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


class OutputError(LrcError):
    """The output exists already, or cannot be written."""


def check_output(path: Path) -> None:
    """Refuse an output that could not be written, before any work is done.

    Raises
    ------
    OutputError
        ``path`` exists, or its parent is missing, is not a directory or is not writable.
    """
    path = Path(path).absolute()
    if os.path.lexists(path):
        raise OutputError(f"output {path} exists already; name a new one or remove it")
    if not path.parent.is_dir():
        raise OutputError(f"cannot write {path}: {path.parent} is not a directory; create it first")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}") from error


@contextlib.contextmanager
def atomic_directory(path: Path, *, fingerprint: str = "") -> Iterator[Path]:
    """Give ``NAME.partial`` to write into; on success it becomes ``path``, else it vanishes.

    A partial directory left by a killed run is replaced; one that another process is writing,
    or that something else made, is refused. With a ``fingerprint`` of the job, an interrupted
    or killed run's directory stays, and the next run with the same fingerprint finds it as it
    was left.

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
    partial = path.with_name(path.name + ".partial")
    with _write_failures(path):
        lock = _claim(partial, fingerprint)
    try:
        with _write_failures(path):
            yield partial
            _sync_tree(partial)
            lock.close()  # some platforms delete no open file
            (partial / _MARKER).unlink()
            os.rename(partial, path)
            _sync_directory(path.parent)
    except BaseException as error:
        if not (fingerprint and isinstance(error, KeyboardInterrupt)):
            shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        lock.close()


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Replace the file ``path`` by ``content`` in one step.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    path = Path(path).absolute()
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
        _sync_directory(path.parent)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputError(f"cannot write {path}: {error.strerror or error}") from error
        raise


def atomic_write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented UTF-8 JSON in one step; see :func:`atomic_write_bytes`."""
    atomic_write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """Indented UTF-8 JSON with a final newline, keys in the order given."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _claim(partial: Path, fingerprint: str) -> IO[bytes]:
    """Make ``partial`` afresh, or keep one of the same job; return its locked marker file."""
    content = fingerprint.encode()
    marker = partial / _MARKER
    if os.path.lexists(partial) and not _is_empty(partial):
        if partial.is_symlink() or not marker.is_file():
            raise OutputError(f"{partial} is in the way; move or remove it")
        with marker.open("rb") as stream:
            _lock(stream, partial)
        if not content or marker.read_bytes() != content:
            shutil.rmtree(partial)
    fresh = not partial.exists()
    try:
        partial.mkdir(exist_ok=True)
        held = marker.open("wb")
        _lock(held, partial)
        held.write(content)
        held.flush()
    except BaseException:
        if fresh:  # an unmarked directory would be in the way of the next run
            shutil.rmtree(partial, ignore_errors=True)
        raise
    return held


def _is_empty(path: Path) -> bool:
    """Whether ``path`` is a real directory with nothing in it: left between making and marking."""
    return path.is_dir() and not path.is_symlink() and not any(path.iterdir())


def _lock(stream: IO[bytes], partial: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(
            f"another process is writing {partial}; wait for it or stop it"
        ) from error
    except OSError:  # the file system has no locks
        return


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


def _sync_tree(root: Path) -> None:
    for folder, _, names in os.walk(root):
        for name in names:
            with (Path(folder) / name).open("rb") as stream:
                os.fsync(stream.fileno())
        _sync_directory(Path(folder))


def _sync_directory(path: Path) -> None:
    """Sync a directory entry where the platform can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
