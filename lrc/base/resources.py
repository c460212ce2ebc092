"""What the running process has used."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path


def peak_rss_bytes() -> int | None:
    """Largest resident memory of this program so far; None where the platform does not say.

    Linux keeps ``ru_maxrss`` across fork and exec, so a child of a large process would report
    its parent's; the memory map's own high-water mark starts afresh.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def trim_heap() -> None:
    """Give back to the system what freed arrays have left of the heap, where libc is glibc.

    Once an array of up to 32 MiB was freed, glibc takes others of its size from the heap, and what
    is free below the last one in use counts as memory (mallopt(3), M_MMAP_THRESHOLD).
    """
    trim = _malloc_trim()
    if trim is not None:
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    import ctypes

    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found
