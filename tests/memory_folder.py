"""A folder in memory, where the platform has one: syncing it takes no time."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

_SHARED = Path("/dev/shm")


@contextlib.contextmanager
def memory_folder() -> Iterator[Path]:
    home = str(_SHARED) if os.access(_SHARED, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=home) as folder:
        yield Path(folder)
