"""Where test sessions keep compiled kernels: one directory for every state of their sources."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

PREFIX = "lrc-numba-"
#: Directories that no session has used for so long are removed.
DAYS = 3


def kept_cache(folder: Path, stamp: str) -> Path:
    """The directory for ``stamp`` in ``folder``; one for this session alone where it is not ours.

    What it holds is code, so another user's directory of that name is not used.
    """
    _prune(folder)
    kept = folder / f"{PREFIX}{stamp}"
    kept.mkdir(mode=0o700, exist_ok=True)
    if not _is_ours(kept):
        return Path(tempfile.mkdtemp(prefix=PREFIX, dir=folder))
    os.utime(kept)
    return kept


def _is_ours(path: Path) -> bool:
    found = path.lstat()
    return not hasattr(os, "getuid") or (
        found.st_uid == os.getuid() and found.st_mode & 0o170777 == 0o040700
    )


def _prune(folder: Path) -> None:
    for old in folder.glob(f"{PREFIX}*"):
        try:
            idle = time.time() - old.lstat().st_mtime
        except FileNotFoundError:  # another session was faster
            continue
        if idle > DAYS * 86400 and _is_ours(old):
            shutil.rmtree(old, ignore_errors=True)
