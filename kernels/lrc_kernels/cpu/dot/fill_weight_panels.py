"""Panels of 64 rows of trellis and shuffle-trellis weights, decoded a block of columns at a time.

A panel is i16 (pairs of columns, 64, 2), as in :mod:`lrc_kernels.simd.weight_panels`, or of rings
i8 (fours of columns, 64, 4), as in :mod:`lrc_kernels.simd.weight_bytes`. Its rows lie
as a tile gives them: those of a trellis by its 16 segments, those of shuffle-trellis rings in the
order of passes, [pass][weight of the pass][segment of the column].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lrc_kernels._jit import choose, njit
from lrc_kernels.cpu.codes.shuffle import make_decode_pass
from lrc_kernels.shuffle_code import LANES, PASS, PASSES, RINGS, SEGMENT
from lrc_kernels.simd.shuffle_stores import store_pairs
from lrc_kernels.simd.threads import scratch_1k
from lrc_kernels.simd.values import splat_i32x16
from lrc_kernels.simd.weight_bytes import BYTES, store_quads
from lrc_kernels.simd.weight_panels import COLUMNS, DECODE, PAIR_BYTES, VECTORS

#: Rows of a panel.
ROWS = 16 * VECTORS


def _make_fill(bits: int, blocks: int, part: int) -> Any:
    """Decode columns of one band's share of a panel."""
    decode, size, columns = DECODE[bits, blocks, part], 32 * bits, 16 // blocks

    @njit(inner=True)
    def fill(words: int, tiles: int, first: int, mask: int, factor: np.int32, out: int) -> None:
        wide_mask, multiplier = splat_i32x16(np.int32(mask)), splat_i32x16(factor)
        if columns == 1:
            for t in range(first, min(tiles, first + COLUMNS), 2):
                second = size if t + 1 < tiles else 0
                place = out + PAIR_BYTES * ((t - first) // 2)
                decode(words + size * t, second, wide_mask, multiplier, place)
        else:
            start = first // columns
            for t in range(start, min(tiles, start + COLUMNS // columns)):
                place = out + PAIR_BYTES * columns // 2 * (t - start)
                decode(words + size * t, 0, wide_mask, multiplier, place)

    return fill


def make_fill_trellis(bits: int, state_bits: int, rows: int) -> Any:
    """Panels of tiles of ``rows`` rows of trellis weights."""
    blocks, mask = rows // 16, (1 << state_bits) - 1
    fill = choose({
        part: _make_fill(bits, blocks, part)
        for b, c, part in DECODE if (b, c) == (bits, blocks)
    })  # fmt: skip

    @njit(inner=True)
    def fill_trellis(
        words: int, factor: np.int32, n: int, vectors: int, weight_panel: int, first: int, out: int
    ) -> None:
        """A block of columns of one panel; ``vectors``: those of the whole matrix."""
        columns = 16 // blocks
        tiles = (n + columns - 1) // columns
        stride = 32 * bits * tiles
        v = VECTORS * weight_panel
        stop = min(vectors, v + VECTORS)
        while v < stop:
            at, part = words + stride * (v // blocks), v % blocks // VECTORS
            fill(part, at, tiles, first, mask, factor, out + 64 * (v % VECTORS))
            v += min(blocks, VECTORS)

    return fill_trellis


#: Columns of rings that lie together.
TOGETHER = 4 if BYTES else 2


def make_fill_shuffle(bits: int, state_bits: int, rows: int) -> Any:
    """Panels of tiles of ``rows`` rows of rings of one code."""
    columns, blocks = 256 // rows, rows // SEGMENT
    wide, decode_pass = RINGS * columns, make_decode_pass(bits, state_bits)
    store = (store_quads if BYTES else store_pairs)[blocks]

    @njit(inner=True)
    def fill_shuffle(
        data: int, levels: int, m: int, n: int, weight_panel: int, first: int, last: int, out: int
    ) -> None:
        """Columns ``first`` to ``last`` of a panel.

        ``first`` is a multiple of 256. Columns from ``last`` on, up to whole eights of rings, are
        not zero: what they are multiplied by has to be.
        """
        place, eights = scratch_1k(), (n + wide - 1) // wide
        size = PASSES * bits * LANES * eights
        for eight in range(first // wide, (last + wide - 1) // wide):
            to = out + PAIR_BYTES * ((wide * eight - first) // TOGETHER)
            for number in range(columns):
                # A panel is so many passes of one band, or of two.
                band = weight_panel * ROWS // rows + number // PASSES
                if rows * band < m:
                    decode_pass(data + size * band, columns, eights, levels, eight,
                                (weight_panel * columns + number) % PASSES, place)  # fmt: skip
                    store(place, to + 4 * PASS * blocks * number, PAIR_BYTES)

    return fill_shuffle
