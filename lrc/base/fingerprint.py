"""One number for all that decides what a job writes: its inputs, and the code that computes it."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from functools import cache
from pathlib import Path

#: What computes the bytes of a compression, beside its inputs.
_SOURCES, _LIBRARIES = ("lrc", "lrc_kernels"), ("numpy", "scipy", "numba", "tokenizers")


def fingerprint(*parts: str | bytes) -> str:
    """One hash of everything that decides a job's bytes."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


@cache
def code_digest() -> str:
    """One hash of the sources of this package and its kernels, and of the libraries below."""
    parts: list[str | bytes] = []
    for package in _SOURCES:
        found = importlib.util.find_spec(package)
        for root in map(Path, (found.submodule_search_locations or ()) if found else ()):
            for path in sorted((*root.rglob("*.py"), *root.rglob("*.cu"))):
                parts += [path.relative_to(root).as_posix(), path.read_bytes()]
    return fingerprint(*parts, *(importlib.import_module(name).__version__ for name in _LIBRARIES))
