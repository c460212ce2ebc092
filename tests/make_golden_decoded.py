"""Write what the codes of every codebook decode to: a new one joins, the others stay.

Any bytes are codes, so it needs no encoder. Run from the repository's root with::

    PYTHONPATH=.:kernels:tests python tests/make_golden_decoded.py
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from codebook_cases import EVERY
from numpy.typing import NDArray

from lrc.codebooks import get_codebook

GOLDEN = Path(__file__).parent / "data" / "golden" / "decoded.json"
#: Rows that nearly all fit, and columns that end within a block of any.
SHAPE = (48, 41)
#: Rows that the others fit.
MORE_ROWS = 96


def shape_of(name: str, bits: int) -> tuple[int, int]:
    """Rows and columns of the codes."""
    fits = get_codebook(name, bits).misfit(SHAPE[0]) is None
    return (SHAPE[0] if fits else MORE_ROWS), SHAPE[1]


def planes(name: str, bits: int) -> list[NDArray[Any]]:
    """Planes of `shape_of` in which all bytes occur, by a rule of their own."""
    found = []
    for place, (dtype, shape) in enumerate(get_codebook(name, bits).layout(*shape_of(name, bits))):
        count = shape[0] * shape[1] * dtype.itemsize
        mixed = np.arange(count, dtype=np.uint64) * np.uint64(2654435761 + 2 * place)
        some = (mixed >> np.uint64(13)).astype(np.uint8)
        if get_codebook(name, bits).absolute:
            some &= np.uint8(0xBF)  # float16 scales among them are finite
        found.append(some.view(dtype).reshape(shape))
    return found


def digest(name: str, bits: int) -> str:
    """Sha256 of the little-endian float32 values of `planes`."""
    book, (m, n) = get_codebook(name, bits), shape_of(name, bits)
    values = book.values(planes(name, bits), n, book.band(m))
    return hashlib.sha256(np.ascontiguousarray(values, "<f4").tobytes()).hexdigest()


def main(path: Path = GOLDEN) -> None:
    """Add what is missing; what is there must stay as it was written."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found = {f"{name} {bits}": digest(name, bits) for name, bits in EVERY} | known
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
