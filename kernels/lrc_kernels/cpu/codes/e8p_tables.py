"""Tables that the lattice kernels of this machine's path decode with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc_kernels import lattice_tables
from lrc_kernels.cpu.codes.e8p_fields import FIELDS

#: Where the signs of E8P and the table of E81B begin, in bytes.
SIGNS, COARSE = 4096, 8192
#: From the points of E81B to a table of no signs.
NO_SIGNS = 2048


def build_tables() -> NDArray[np.uint8]:
    """Every table of this path in one array: e8p at 0, its signs at 4096, e81b at 8192."""
    table = np.zeros(12288, np.uint8)
    u = (lattice_tables.e8p_rows() - 0.5).astype(np.uint64)
    coarse = (2 * lattice_tables.e81b_points() + 4).astype(np.uint64)
    place = np.arange(8)
    if FIELDS:
        fields = (u << (2 * (place % 4) + 8 * (place // 4)).astype(np.uint64)).sum(axis=1)
        table[:512] = fields.astype(np.uint16).view(np.uint8)
        for half in (0, 1):
            chosen = coarse[:, [2 * half, 2 * half + 1, 2 * half + 4, 2 * half + 5]]
            packed = (chosen << np.array([0, 4, 8, 12], np.uint64)).sum(axis=1)
            start = 8192 + 512 * half
            table[start : start + 512] = packed.astype(np.uint16).view(np.uint8)
        return table
    negative = lattice_tables.e8p_signed_rows() < 0
    flipped = lattice_tables.e8p_signs() < 0
    table[:2048] = ((2 * u.astype(np.uint8) + 8) ^ (14 * negative).astype(np.uint8)).reshape(-1)
    even = 1 - np.arange(256)[:, None] % 2
    table[4096:6144] = (14 * flipped + even).astype(np.uint8).reshape(-1)
    table[8192:10240] = coarse.astype(np.uint8).reshape(-1)
    return table
