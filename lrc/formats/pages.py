"""Giving back the memory that mapped weight files take once they have been looked at."""

from __future__ import annotations

import mmap
from collections.abc import Iterable
from typing import Any

import numpy as np

from lrc.base.resources import trim_heap
from lrc.formats.safetensors.file import SafetensorsFile


def release_pages(files: Iterable[SafetensorsFile]) -> None:
    """Let the system take back what was read of the files, and what is free of the heap.

    Files are read again when needed, and views of them stay valid. Without effect where the
    platform offers no such advice.
    """
    trim_heap()
    if not hasattr(mmap, "MADV_DONTNEED"):
        return
    for file in {file.path: file for file in files}.values():
        under: Any = file.read(file.names[0]) if file.names else None
        while isinstance(under, np.ndarray):
            under = under.base
        if isinstance(under, mmap.mmap):
            under.madvise(mmap.MADV_DONTNEED)
