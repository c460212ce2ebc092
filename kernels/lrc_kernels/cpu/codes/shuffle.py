"""Bands of shuffle-trellis rings as integers and as float32."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types
from numpy.typing import NDArray

from lrc_kernels._jit import njit
from lrc_kernels._late import late
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
from lrc_kernels.simd.paths import path
from lrc_kernels.simd.shuffle_stores import splat_f32x8, store_row
from lrc_kernels.simd.shuffle_values import PARTS, store_levels
from lrc_kernels.simd.threads import scratch_1k
from lrc_kernels.simd.values import load_f32, load_i8, load_u8, store_f32, store_i8

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


def _make_levels(bits: int, state_bits: int) -> Any:
    """Integers i8 (8 weights, 64 lanes) of a pass of eight rings."""
    store, part_bytes = store_levels[bits, state_bits], LANES // PARTS

    @njit(inner=True)
    def run(at: int, after: int, last: bool, levels: int, out: int) -> None:
        for part in range(PARTS):
            skip = part_bytes * part
            store(at + skip, after + skip, last, out + skip)

    return run


def _make_plain_levels(bits: int, state_bits: int) -> Any:
    """The same without vectors: states are looked up in ``levels``."""
    mask, phases = (1 << state_bits) - 1, CODES[bits, state_bits].period

    @njit(inner=True)
    def run(at: int, after: int, last: bool, levels: int, out: int) -> None:
        for lane in range(LANES):
            following = lane
            if last:
                following = lane // 32 * 32 + (lane + RINGS // 2) % 32
            word = 0
            for q in range(bits):
                word |= load_u8(at + lane + LANES * q) << (8 * q)
            for q in range(2):
                word |= load_u8(after + following + LANES * q) << (8 * (bits + q))
            for t in range(PASS):
                place = levels + ((t % phases) << state_bits) + (word & mask)
                store_i8(out + LANES * t + lane, load_i8(place))
                word >>= bits

    return run


_make = _make_plain_levels if path() == "generic" else _make_levels


def make_decode_pass(bits: int, state_bits: int) -> Any:
    """Passes of rings of one code, as integers."""
    decode = _make(bits, state_bits)

    @njit(inner=True)
    def decode_pass(
        band: int, columns: int, eights: int, levels: int, eight: int, number: int, out: int
    ) -> None:
        """Integers i8 (8 weights, 64 lanes) of pass ``number`` of eight rings of a band.

        ``columns``: of a tile. ``levels``: address of `state_levels`.
        """
        size, together = bits * LANES, GROUP // (RINGS * columns)
        first = eight // together * together
        stride = size * min(together, eights - first)
        group = band + PASSES * size * first + size * (eight - first)
        at, last = group + stride * number, number == PASSES - 1
        after = group if last else at + stride
        decode(at, after, last, levels, out)

    return decode_pass


@late(*(types.intp,) * 8)
def _decode(bits: int, state_bits: int) -> Any:
    """All weights of bands of rings of one code."""
    decode_pass = make_decode_pass(bits, state_bits)

    def run(
        data: int, bands: int, levels: int, rows: int, n: int, scales: int, step: int, out: int
    ) -> None:
        """To f32 (bands * rows, n) at ``out``; ``scales`` f32, ``step`` bytes (4 or 0) a row."""
        columns = 256 // rows
        wide, place = RINGS * columns, scratch_1k()
        eights = (n + wide - 1) // wide
        size = PASSES * bits * LANES * eights
        for a in range(bands):
            for eight in range(eights):
                for p in range(PASSES):
                    decode_pass(data + size * a, columns, eights, levels, eight, p, place)
                    for i in range(PASS * SEGMENTS):
                        t, s = i // SEGMENTS, i % SEGMENTS
                        weight = SEGMENT * s + PASS * p + t
                        row, first = rows * a + weight % rows, wide * eight + weight // rows
                        at = place + LANES * t + RINGS // 2 * s
                        scale = load_f32(scales + step * row) * _UNIT
                        if columns == 1 and first + RINGS <= n:
                            store_row(at, splat_f32x8(scale), out + 4 * (n * row + first))
                            continue
                        for ring in range(RINGS):
                            column = first + columns * ring
                            if column < n:
                                level = load_i8(at + LANES // 2 * (ring // 4) + ring % 4)
                                store_f32(out + 4 * (n * row + column), np.float32(level) * scale)

    return run


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
    levels, wide = state_levels(bits, state_bits), np.ascontiguousarray(scales, np.float32)
    _decode.kernel(bits, state_bits)(
        data.ctypes.data, len(data), levels.ctypes.data, rows, n, wide.ctypes.data,
        4 if len(wide) > 1 else 0, out.ctypes.data,
    )  # fmt: skip
