"""The cache of the Hugging Face hub: ``models--ORG--NAME/{blobs,refs,snapshots/REVISION}``.

Files of a snapshot are links into ``blobs``, which all snapshots share.
"""

from __future__ import annotations

from pathlib import Path

from lrc.errors import FormatError

_SNAPSHOTS, _BLOBS = "snapshots", "blobs"


def blobs_of(folder: Path) -> Path | None:
    """``blobs`` of the repository that ``folder``, fully resolved, is in a snapshot of.

    The folder may be the snapshot itself or lie anywhere below it; None for any other folder.
    """
    for above in folder.parents:
        if above.name == _SNAPSHOTS and (above.parent / _BLOBS).is_dir():
            return above.parent / _BLOBS
    return None


def snapshot_in(path: Path) -> Path:
    """The only snapshot where ``path`` is a cached repository; ``path`` itself where it is none.

    Raises
    ------
    FormatError
        The repository has no snapshot, or several; they are named.
    """
    repository = path.parent if path.name == _SNAPSHOTS else path
    if not ((repository / _SNAPSHOTS).is_dir() and (repository / _BLOBS).is_dir()):
        return path
    if (repository / "config.json").exists():
        return path
    found = sorted(p for p in (repository / _SNAPSHOTS).iterdir() if p.is_dir())
    if len(found) == 1:
        return found[0]
    if not found:
        raise FormatError(
            f"{repository} is a repository of the Hugging Face cache without a snapshot; "
            "fetch the model again"
        )
    main = _revision(repository / "refs" / "main")
    names = ", ".join(f"{p.name} (main)" if p.name == main else p.name for p in found)
    raise FormatError(
        f"{repository} is a repository of the Hugging Face cache with {len(found)} snapshots; "
        f"give one of them, {repository / _SNAPSHOTS}/REVISION: {names}"
    )


def _revision(ref: Path) -> str | None:
    """What a file in ``refs`` points at."""
    try:
        return ref.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
