"""The E8P and E81B codebooks, generated: nothing here is a copied table.

E8P (QuIP#, Tseng et al. 2024, arXiv:2402.04396, section 4.2) has 2^16 points of E8 + 1/4:
``signs * S[row] +- 1/4`` where ``S`` holds 256 rows of odd multiples of 1/2 and the signed row
has an even coordinate sum. A 16-bit code is laid out here as::

    bits 8-15  row of S
    bits 1-7   coordinate i = 1..7 is negative
    bit  0     1: the shift is -1/4, 0: it is +1/4

and the sign of coordinate 0 is the one that makes the sum of ``signs * S[row]`` even.

Rows 0-226 are all positive odd/2 vectors of squared norm <= 10 in lexicographic order. Rows
227-255 are 29 of the 56 vectors of squared norm 12 (five 3/2, three 1/2): the places of the
three 1/2 form a triple ``i < j < k``; taken are the 28 triples with an even ``i + j + k`` in
lexicographic order (they meet every coordinate and pair about equally often), then (0, 1, 2).

E81B is a 1-bit codebook: 256 short vectors of E8, code 0 the origin, codes 1-112 the roots
``+-e_i +-e_j`` (``1 + 4 * pair(i, j) + 2 * negative_i + negative_j``), codes 113-240 the roots
``(+-1/2)^8`` with an even number of minus signs (``113 +`` the signs of coordinates 1..7 as
bits 0..6), codes 241-255 the vectors ``+-2 e_i`` (``241 + 2 * i + negative``; ``-2 e_7`` would
be 256 and is left out).
"""

from __future__ import annotations

from functools import cache
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]

#: First row of squared norm 12.
FIRST_WIDE_ROW = 227


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Return ``array`` made read-only, since the tables are shared."""
    array.setflags(write=False)
    return array


@cache
def wide_triples() -> NDArray[np.int64]:
    """Places of the three 1/2 in rows 227-255: i64 (29, 3)."""
    triples = list(combinations(range(8), 3))
    chosen = [t for t in triples if sum(t) % 2 == 0] + [(0, 1, 2)]
    return frozen(np.array(chosen, np.int64))


@cache
def e8p_rows() -> F32:
    """Return the table S of absolute values: f32 (256, 8)."""
    odd = [row for row in product((1, 3, 5), repeat=8) if sum(v * v for v in row) <= 40]
    narrow = np.array(sorted(odd), np.float32) / 2
    wide = np.full((29, 8), 1.5, np.float32)
    np.put_along_axis(wide, wide_triples(), np.float32(0.5), axis=1)
    return frozen(np.concatenate([narrow, wide]))


@cache
def e8p_row_index() -> NDArray[np.uint8]:
    """Row of a pattern: u8 (9, 256).

    First index: 1 + place of the 5/2, or 0 when there is none. Second: bit ``i`` set when
    coordinate ``i`` is larger than 1/2. Entries that are no row hold 0.
    """
    table = np.zeros((9, 256), np.uint8)
    for index, row in enumerate(e8p_rows()):
        five = int(np.argmax(row)) + 1 if row.max() > 2 else 0
        table[five, int(np.sum((row > 1) << np.arange(8)))] = index
    return frozen(table)


@cache
def e8p_signed_rows() -> F32:
    """Return S with coordinate 0 negated in rows of odd sum: f32 (256, 8).

    Flipping an even number of signs of these rows gives exactly the even sums.
    """
    rows = e8p_rows().copy()
    rows[rows.sum(axis=1) % 2 == 1, 0] *= -1
    return frozen(rows)


@cache
def e8p_signs() -> F32:
    """Signs of a code's low byte: f32 (256, 8), an even number of -1 in each row."""
    low = np.arange(256)[:, None] >> np.arange(8) & 1
    low[:, 0] = low[:, 1:].sum(axis=1) % 2
    return frozen((1 - 2 * low).astype(np.float32))


@cache
def e8p_shifts() -> F32:
    """Shift of a code's low byte: f32 (256,), +1/4 for even and -1/4 for odd."""
    return frozen(np.where(np.arange(256) & 1, -0.25, 0.25).astype(np.float32))


@cache
def e8p_points() -> F32:
    """Return all points in the order of their codes: f32 (65536, 8)."""
    signed = e8p_signed_rows()[:, None, :] * e8p_signs()[None]
    return frozen((signed + e8p_shifts()[None, :, None]).reshape(65536, 8))


@cache
def e81b_points() -> F32:
    """Return the 256 points of E81B in the order of their codes: f32 (256, 8)."""
    points = np.zeros((257, 8), np.float32)
    for pair, (i, j) in enumerate(combinations(range(8), 2)):
        for negative_i, negative_j in product((0, 1), repeat=2):
            code = 1 + 4 * pair + 2 * negative_i + negative_j
            points[code, i], points[code, j] = 1 - 2 * negative_i, 1 - 2 * negative_j
    points[113:241] = e8p_signs()[::2] / 2
    for i in range(8):
        points[241 + 2 * i, i], points[242 + 2 * i, i] = 2, -2
    return frozen(points[:256].copy())
