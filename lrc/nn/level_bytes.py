"""Scalar codebooks as tables of bytes, which vector kernels look up."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrc.codebooks.codec import levels


class LevelBytes(NamedTuple):
    """Code c stands for ``unit * (entries[c] - centre)``; without entries, c is its own."""

    entries: NDArray[np.uint8] | None
    unit: float
    centre: float


@cache
def level_bytes(codebook: str, bits: int) -> LevelBytes | None:
    """Bytes of a scalar codebook; None where its levels are no multiples of a unit that fit.

    Entries are 16 bytes, four times over.
    """
    if codebook == "uniform":
        return LevelBytes(None, 1.0, (2**bits - 1) / 2)
    if codebook != "lloyd-max" or bits > 4:
        return None
    values = levels(codebook, bits)
    unit = float(values[-1]) / 127
    entries = np.zeros(16, np.uint8)
    entries[: len(values)] = np.rint(values / unit).astype(np.int64) + 128
    table = np.tile(entries, 4)
    table.setflags(write=False)
    return LevelBytes(table, unit, 128.0)
