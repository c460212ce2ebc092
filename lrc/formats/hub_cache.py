"""The cache of the Hugging Face hub: ``models--ORG--NAME/{blobs,refs,snapshots/REVISION}``.

Files of a snapshot are links into ``blobs``, which all snapshots share.
"""

from __future__ import annotations

import os
from pathlib import Path

from lrc.errors import FormatError

_SNAPSHOTS, _BLOBS, _PREFIX = "snapshots", "blobs", "models--"


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


def cache_folder() -> Path:
    """Where the cache is: as the hub's own variables say, or where it is unless told."""
    if given := os.environ.get("HF_HUB_CACHE"):
        return Path(given).expanduser()
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or f"{caches}/huggingface").expanduser() / "hub"


def cached_snapshot(name: str, revision: str = "main") -> Path | None:
    """The snapshot of the model ``name`` (ORG/NAME) at a branch or commit; None where none is."""
    repository = cache_folder() / (_PREFIX + name.replace("/", "--"))
    commit = _revision(repository / "refs" / revision) or revision
    found = repository / _SNAPSHOTS / commit
    return found if found.is_dir() else None


def repository_of(folder: Path) -> tuple[str, str] | None:
    """Name (ORG/NAME) and commit of the cached model whose snapshot ``folder`` is; None of others.

    Examples
    --------
    >>> repository_of(Path("hub/models--org--tiny/snapshots/abc"))
    ('org/tiny', 'abc')
    >>> repository_of(Path("models/tiny"))
    """
    above = folder.parent
    if above.name != _SNAPSHOTS or not above.parent.name.startswith(_PREFIX):
        return None
    return above.parent.name.removeprefix(_PREFIX).replace("--", "/", 1), folder.name


def refuse_cached(folder: Path) -> None:
    """Refuse to write into a snapshot, which is the hub's.

    Raises
    ------
    FormatError
        Saying what to do.
    """
    if blobs_of(folder.resolve() / "any") is not None:
        raise FormatError(f"{folder} lies in the cache of the hub, which stays as it is; copy it")


def _revision(ref: Path) -> str | None:
    """What a file in ``refs`` points at."""
    try:
        return ref.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None
