"""The state of this package's sources, which compiled kernels are built from."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


@cache
def source_stamp() -> str:
    """Hexadecimal digits that change with any source file of this package."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
