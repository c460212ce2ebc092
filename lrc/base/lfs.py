"""Pointers that git leaves in place of large files where git-lfs did not fetch them."""

from __future__ import annotations

from pathlib import Path

from lrc.errors import FormatError

_FIRST_LINE = b"version https://git-lfs.github.com/spec/"


def refuse_pointer(path: Path) -> None:
    """Refuse a file that is a git-lfs pointer; one that cannot be read is left to its reader.

    Raises
    ------
    FormatError
        With what to do.
    """
    try:
        with path.open("rb") as stream:
            start = stream.read(len(_FIRST_LINE))
    except OSError:
        return
    if start == _FIRST_LINE:
        raise FormatError(
            f"{path} is a git-lfs pointer, not the file itself; run git lfs pull in its directory"
        )
