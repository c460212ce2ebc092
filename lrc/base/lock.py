"""One writer at a time: a file held open under a lock, and surely the one at its path."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from lrc.errors import LrcError

try:
    import fcntl
except ImportError:  # no flock on this platform: a second writer is not noticed
    fcntl = None  # type: ignore[assignment]

_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
#: More often than this a lock is not lost to writers that come and go.
TRIES = 100


class OutputError(LrcError):
    """The output exists already, or cannot be written."""


class LockedFile:
    """An open file under this process's lock; make one with :meth:`take`.

    Attributes
    ----------
    path
        Where the file was when it was taken.
    locked
        False where platform or file system has no locks.
    """

    def __init__(self, path: Path, descriptor: int, locked: bool) -> None:
        self.path = path
        self.locked = locked
        self._descriptor: int | None = descriptor

    @classmethod
    def take(cls, path: Path) -> LockedFile:
        """Open the file ``path``, made empty where there is none, and lock it.

        Raises
        ------
        OutputError
            Another process holds it.
        OSError
            It cannot be opened.
        """
        for _ in range(TRIES):
            descriptor = os.open(path, _FLAGS, 0o666)
            try:
                taken = cls(path, descriptor, _lock(descriptor, path))
                if taken.is_current():
                    return taken
            except BaseException:
                os.close(descriptor)
                raise
            taken.close()  # whoever had it removed or renamed it before the lock was ours
        raise _busy(path)

    def is_current(self) -> bool:
        """Whether ``path`` still is this very file, so that what is done there is ours to do."""
        if self._descriptor is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._descriptor), os.lstat(self.path))
        except OSError:
            return False

    def read(self) -> bytes:
        """The whole content."""
        assert self._descriptor is not None
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        with os.fdopen(os.dup(self._descriptor), "rb") as stream:
            return stream.read()

    def write(self, content: bytes) -> None:
        """Replace the content and sync it; a file that held something is never empty between."""
        assert self._descriptor is not None
        os.lseek(self._descriptor, 0, os.SEEK_SET)
        left = memoryview(content)
        while left:
            left = left[os.write(self._descriptor, left) :]
        os.ftruncate(self._descriptor, len(content))
        os.fsync(self._descriptor)

    def remove(self) -> None:
        """Remove the file, and only then let its lock go."""
        self.close_where_open_files_stay()
        self.path.unlink()
        self.close()

    def close_where_open_files_stay(self) -> None:
        """Close it on a platform without locks: such ones neither move nor delete open files."""
        if fcntl is None:
            self.close()

    def close(self) -> None:
        """Let the lock go."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _lock(descriptor: int, path: Path) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _busy(path) from error
    except OSError:  # the file system has no locks
        return False
    return True


def _busy(path: Path) -> OutputError:
    return OutputError(f"another process is writing {path.parent}; wait for it or stop it")
