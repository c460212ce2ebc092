"""What the running process has used."""

from __future__ import annotations

import sys


def peak_rss_bytes() -> int | None:
    """Largest resident memory of this process so far; None where the platform does not say."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
