"""Bands of shuffle-trellis rings as integers and as float32: one segment of 32 weights at a time.

States are looked up in a table of all of them, so every machine does the same here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc_kernels._jit import njit
from lrc_kernels.shuffle_code import (
    CODES,
    GROUP,
    LANES,
    PASS,
    PASSES,
    RINGS,
    SEGMENT,
    SEGMENTS,
    TILE_ROWS,
    UNIT,
    plane_bytes,
    state_levels,
)
from lrc_kernels.simd.threads import scratch_256
from lrc_kernels.simd.values import load_i8, load_u8, store_i8, store_i16

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

_UNIT = np.float32(1 / UNIT)


def check_bytes(data: U8, bits: int, state_bits: int, rows: int, n: int) -> None:
    """Raise ValueError unless ``data`` are bands of tiles of ``rows`` rows, n columns wide."""
    if (bits, state_bits) not in CODES or rows not in TILE_ROWS:
        raise ValueError(f"no code of {bits} bits, {state_bits} state bits, {rows} rows a tile")
    width = plane_bytes(n, bits, rows)
    if data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != width:
        raise ValueError(f"codes are {data.dtype} {data.shape}; {n} columns need {width} a band")


@njit(inner=True)
def decode_segment(
    band: int, bits: int, state_bits: int, rows: int, eights: int, levels: int, ring: int,
    segment: int, out: int,
) -> None:  # fmt: skip
    """Integers i8 (32,) of a segment of a ring; ``levels``: address of `state_levels`."""
    eight, size = ring // RINGS, bits * LANES
    together = GROUP * rows // (256 * RINGS)
    first = eight // together * together
    count = min(together, eights - first)
    lane = 32 * (ring % RINGS // 4) + ring % 4
    at = band + PASSES * size * first + size * (eight - first)
    mask, phases = (1 << state_bits) - 1, 4 // bits if bits != 3 else 4
    word, have = 0, 0
    for p in range(PASSES):
        for q in range(bits):
            word |= load_u8(at + size * count * p + LANES * q + lane + 4 * segment) << have
            have += 8
        if p == PASSES - 1:
            following = at + lane + 4 * ((segment + 1) % SEGMENTS)
            word |= load_u8(following) << have | load_u8(
                following + (LANES if bits > 1 else size * count)
            ) << (have + 8)
            have += 16
        # What is known ends a state before the next pass.
        ready = PASS * (p + 1) if p == PASSES - 1 else PASS * (p + 1) - (state_bits - 1) // bits
        done = PASS * p - (state_bits - 1) // bits if p > 0 else 0
        for t in range(done, ready):
            level = load_i8(levels + (((t % phases) << state_bits) + (word & mask)))
            store_i8(out + t, level)
            word >>= bits
            have -= bits


@njit()
def _decode(
    data: int, bands: int, bits: int, state_bits: int, levels: int, rows: int, n: int, scales: F32,
    out: F32,
) -> None:  # fmt: skip
    columns = 256 // rows
    eights = (n + RINGS * columns - 1) // (RINGS * columns)
    size, place = PASSES * bits * LANES * eights, scratch_256()
    for a in range(bands):
        for c in range(n):
            for block in range(rows // SEGMENT):
                ring, segment = c // columns, c % columns * (rows // SEGMENT) + block
                decode_segment(data + size * a, bits, state_bits, rows, eights, levels, ring,
                               segment, place)  # fmt: skip
                for i in range(SEGMENT):
                    row = rows * a + SEGMENT * block + i
                    scale = scales[row if len(scales) > 1 else 0] * _UNIT
                    out[row, c] = np.float32(load_i8(place + i)) * scale


def decode_rows_shuffle(
    data: U8, bits: int, state_bits: int, scales: F32, out: F32, rows: int
) -> None:
    """Write the weights of bands of tiles, times the scale of their row.

    Parameters
    ----------
    data
        u8 (a, `plane_bytes`), C-contiguous.
    bits, state_bits
        Of one of `CODES`.
    scales
        f32 (a * rows,) or (1,).
    out
        f32 (a * rows, n), C-contiguous.
    rows
        Height of the tiles.

    Raises
    ------
    ValueError
        When these do not fit one another.
    """
    count, n = out.shape
    check_bytes(data, bits, state_bits, rows, n)
    whole = data.flags.c_contiguous and out.flags.c_contiguous and out.dtype == np.float32
    if not (whole and count == len(data) * rows and scales.shape in ((1,), (count,))):
        raise ValueError(f"codes {data.shape}, scales {scales.shape} and out {out.shape}")
    levels = state_levels(bits, state_bits)
    _decode(
        data.ctypes.data, len(data), bits, state_bits, levels.ctypes.data, rows, n,
        np.ascontiguousarray(scales, np.float32), out,
    )  # fmt: skip


@njit(inner=True)
def fill_weight_panel(
    data: int, bits: int, state_bits: int, levels: int, rows: int, n: int, top: int, stop: int,
    first: int, last: int, vectors: int, out: int,
) -> None:  # fmt: skip
    """Rows ``top`` to ``stop``, whole segments, of columns ``first`` to ``last`` of a panel.

    Pairs of columns lie together: i16 (pairs, 16 * vectors, 2); an odd one beyond is zero.
    """
    columns = 256 // rows
    eights = (n + RINGS * columns - 1) // (RINGS * columns)
    size, place = PASSES * bits * LANES * eights, scratch_256()
    for row in range(top, stop, SEGMENT):
        band, block = data + size * (row // rows), row % rows // SEGMENT
        for c in range(first, last):
            segment = c % columns * (rows // SEGMENT) + block
            decode_segment(band, bits, state_bits, rows, eights, levels, c // columns, segment,
                           place)  # fmt: skip
            at = out + 64 * vectors * ((c - first) // 2) + 2 * ((c - first) % 2) + 4 * (row - top)
            for i in range(SEGMENT):
                store_i16(at + 4 * i, np.int16(load_i8(place + i)))
                if c == last - 1 and (c - first) % 2 == 0:
                    store_i16(at + 4 * i + 2, np.int16(0))
