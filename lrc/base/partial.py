"""A directory that is being written, ``OUT.partial``: whose it is, and that it is this process's.

A marker file in it says both. Who holds its lock is the writer. Its content says whose work lies
there: empty, just marked, so nothing should; a fingerprint, that job's; anything else, what may
be discarded. The marker is the first file there and the last to go, and its content is changed
only while nothing of worth lies beside it, so a process may die after any step.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Self

from lrc.base.lock import TRIES, LockedFile, OutputError

MARKER = ".lrc-writing"
_UNNAMED, _DISCARDED = b"unnamed\n", b"discarded\n"


class PartialDirectory:
    """A directory that this process writes; make one with :meth:`claim`."""

    def __init__(self, folder: Path, marker: LockedFile) -> None:
        self.folder = folder
        self._marker = marker

    @classmethod
    def claim(cls, folder: Path, fingerprint: str, tell: Callable[[str], object]) -> Self:
        """Make ``folder``, or take over what a dead process left there.

        What a job of the same, not empty ``fingerprint`` left is kept, all else is removed.
        ``tell`` hears of another job's work that is.

        Raises
        ------
        OutputError
            Another process writes there, or something is there that this program did not make.
        """
        for _ in range(TRIES):
            _make(folder)
            try:
                marker = LockedFile.take(folder / MARKER)
            except (FileNotFoundError, NotADirectoryError):
                continue  # its writer moved or removed it after we looked
            except OSError:
                with contextlib.suppress(OSError):
                    folder.rmdir()  # where it is empty nobody has it, or needs it
                raise
            claimed = cls(folder, marker)
            try:
                claimed._prepare(fingerprint.encode(), tell)
            except BaseException:
                claimed._leave()
                raise
            return claimed
        raise _in_the_way(folder)

    def _prepare(self, fingerprint: bytes, tell: Callable[[str], object]) -> None:
        """Keep or remove what lies there, then name it."""
        state = self._marker.read()
        if state and state == fingerprint:
            return
        if self._others():
            if not state:
                self._marker.remove()
                raise _in_the_way(self.folder)
            if not self._marker.locked:
                raise OutputError(
                    f"{self.folder} is of another run, and this file system cannot tell whether "
                    "it has ended; remove the directory if it has"
                )
            if not state.startswith((_UNNAMED, _DISCARDED)):  # the end may be of what was there
                tell(
                    f"{self.folder} is of another model, text or options, or of another version "
                    "of lrc: it is replaced"
                )
            self._marker.write(_DISCARDED)  # so that no job finds half of its files
            self._empty()
        self._marker.write(fingerprint or _UNNAMED)
        sync_directory(self.folder)
        sync_directory(self.folder.parent)  # else a power cut takes it whole, with what follows

    def _leave(self) -> None:
        """Let go of a directory that was not to be had, and of a trace of this attempt."""
        with contextlib.suppress(OSError):
            if not self._others():
                self.discard()
        self.close()

    def _others(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.name != MARKER)

    def _empty(self) -> None:
        """Remove all but the marker."""
        for path in self._others():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def is_ours(self) -> bool:
        """Whether the directory at ``folder`` still is the one that was claimed."""
        return self._marker.is_current()

    def discard(self) -> None:
        """Remove the directory, as far as that can be done and it is ours."""
        with contextlib.suppress(OSError):
            if self.is_ours():
                with contextlib.suppress(OSError):  # where nothing can be written any more
                    self._marker.write(_DISCARDED)
                self._empty()
                self._marker.remove()
                self.folder.rmdir()

    def become(self, out: Path) -> None:
        """Rename the directory, which lies complete on disk, to ``out``.

        The marker goes once that is on disk: without it, nobody could tell whose the directory is.

        Raises
        ------
        OutputError
            There is something at ``out`` by now.
        """
        if os.path.lexists(out):
            raise exists(out)
        self._marker.close_where_open_files_stay()
        os.rename(self.folder, out)
        sync_directory(out.parent)  # else a power cut may take the new name, not the marker back
        with contextlib.suppress(OSError):
            (out / MARKER).unlink()

    def close(self) -> None:
        """Let the lock go; the directory stays."""
        self._marker.close()


def exists(out: Path) -> OutputError:
    """What to say of an output that is there already."""
    return OutputError(f"output {out} exists already; name a new one or remove it")


def sync_tree(root: Path) -> None:
    """Sync every file and directory below ``root``, and itself."""
    for folder, _, names in os.walk(root):
        for name in names:
            with (Path(folder) / name).open("rb") as stream:
                os.fsync(stream.fileno())
        sync_directory(Path(folder))


def sync_directory(path: Path) -> None:
    """Sync a directory entry where the platform can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _make(folder: Path) -> None:
    """Make ``folder``, or see that it is empty or marked: left by one who died, or being written.

    Raises
    ------
    OutputError
        It is anything else.
    """
    try:
        folder.mkdir()
    except FileExistsError:
        if folder.is_symlink():
            raise _in_the_way(folder) from None
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return
        except NotADirectoryError:
            raise _in_the_way(folder) from None
        marker = folder / MARKER
        if names and (MARKER not in names or marker.is_symlink() or marker.is_dir()):
            raise _in_the_way(folder) from None


def _in_the_way(folder: Path) -> OutputError:
    return OutputError(f"{folder} is in the way; move or remove it")
