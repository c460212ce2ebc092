"""A compressed model in the place of an older one, which must hold nothing but what was written."""

from __future__ import annotations

import os
from pathlib import Path

from lrc.base.partial import MARKER, sync_directory
from lrc.errors import LrcError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.parts.fields import MANIFEST, RUN
from lrc.parts.manifest import read_manifest


def check_replaceable(folder: Path, original: Checkpoint) -> None:
    """Refuse a ``folder`` that is anything but ``original`` compressed, or absent or empty.

    Raises
    ------
    LrcError
        It is something else, or has files beside those that a compression writes.
    """
    if not os.path.lexists(folder):
        return
    if folder.is_symlink() or not folder.is_dir():
        raise LrcError(f"{folder} is in the way of the demo's model; move or remove it")
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if _is_file(path)}
    foreign = sorted(found - _written(folder, original)) if found else []
    if foreign:
        raise LrcError(
            f"{folder} holds {foreign[0]}, which the demo did not write, and its model would take "
            "the directory's place; move the directory, or give another --dir"
        )


def remove_replaceable(folder: Path, original: Checkpoint) -> None:
    """Remove what :func:`check_replaceable` lets pass; its manifest, which tells it, goes last."""
    check_replaceable(folder, original)
    if not folder.exists():
        return
    below = sorted(folder.rglob("*"), key=lambda path: (path.name == MANIFEST, path))
    for path in filter(_is_file, below):
        path.unlink()
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir()
    folder.rmdir()


def replace(folder: Path, by: Path, original: Checkpoint) -> None:
    """Remove ``folder`` likewise and rename ``by`` to it."""
    remove_replaceable(folder, original)
    os.rename(by, folder)
    sync_directory(folder.parent)


def _is_file(path: Path) -> bool:
    return path.is_symlink() or not path.is_dir()


def _written(folder: Path, original: Checkpoint) -> set[str]:
    """Files that a compression of ``original`` writes, by the manifest in ``folder``."""
    if not (folder / MANIFEST).is_file():
        return set()
    side_files = (path.relative_to(original.path).as_posix() for path in original.other_files())
    return {*read_manifest(folder)["files"], *side_files, MANIFEST, RUN, MARKER}
