"""Whole rows of lattice codes as float32, for products with many vectors at once."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc_kernels._jit import njit
from lrc_kernels.cpu.codes.e8p_fields import FIELDS, coarse_weights, field_weights, load_fields
from lrc_kernels.cpu.codes.e8p_tables import COARSE, NO_SIGNS, SIGNS, build_tables
from lrc_kernels.cpu.dot.dot_e8p import take_coarse, take_codes
from lrc_kernels.simd.codes import bytes_to_f32, point_bytes, store_points
from lrc_kernels.simd.threads import scratch_256
from lrc_kernels.simd.values import (
    load_f32,
    load_u8,
    splat_f32x16,
    splat_i16x32,
    store_f32,
    store_f32x16,
    store_i8x64,
    store_i16x32,
)

F32 = NDArray[np.float32]


@njit(inline=True)
def _points(codes: Any, left: Any, tables: Any, t: Any, kept: Any, out: Any) -> Any:
    """Write 256 bytes w of the next ``left`` E8P codes; ``kept``: 64 bytes."""
    c = take_codes(codes, left)
    if FIELDS:
        w0, w1, w2, w3 = field_weights(c, t)
        store_points(out, w0, w1, w2, w3)
    else:
        store_i16x32(kept, c)
        for part in range(4):
            points = point_bytes(kept + 16 * part, tables, tables + SIGNS)
            store_i8x64(out + 64 * part, points)


@njit(inline=True)
def _coarse_points(codes: Any, left: Any, tables: Any, kept: Any, out: Any) -> Any:
    """The same for E81B codes."""
    c = take_coarse(codes, left)
    table = tables + COARSE
    if FIELDS:
        w0, w1, w2, w3 = coarse_weights(c, table)
        store_points(out, w0, w1, w2, w3)
    else:
        store_i16x32(kept, c << splat_i16x32(np.int16(8)))
        for part in range(4):
            points = point_bytes(kept + 16 * part, table, table + NO_SIGNS)
            store_i8x64(out + 64 * part, points)


@njit(inline=True)
def _write(stored: int, count: int, scale: np.float32, out: int) -> None:
    """``count`` weights of bytes w: ``(w / 2 - 3.75) * scale``."""
    whole = count // 16 * 16
    half, shift = splat_f32x16(np.float32(0.5)), splat_f32x16(np.float32(3.75))
    factor = splat_f32x16(scale)
    for i in range(0, whole, 16):
        store_f32x16(out + 4 * i, (bytes_to_f32(stored + i) * half - shift) * factor)
    for i in range(whole, count):
        value = np.float32(load_u8(stored + i)) * np.float32(0.5) - np.float32(3.75)
        store_f32(out + 4 * i, value * scale)


@njit(inline=True)
def _write_sum(
    stored: int, rest: int, count: int, inverse: np.float32, shift: np.float32, scale: np.float32,
    out: int,
) -> None:  # fmt: skip
    """The same plus ``inverse`` times bytes ``rest`` / 2 - ``shift``, before the scale."""
    whole = count // 16 * 16
    half, first = splat_f32x16(np.float32(0.5)), splat_f32x16(np.float32(3.75))
    second, part, factor = splat_f32x16(shift), splat_f32x16(inverse), splat_f32x16(scale)
    for i in range(0, whole, 16):
        more = (bytes_to_f32(rest + i) * half - second) * part
        store_f32x16(out + 4 * i, (bytes_to_f32(stored + i) * half - first + more) * factor)
    for i in range(whole, count):
        tail = (np.float32(load_u8(rest + i)) * np.float32(0.5) - shift) * inverse
        value = np.float32(load_u8(stored + i)) * np.float32(0.5) - np.float32(3.75)
        store_f32(out + 4 * i, (value + tail) * scale)


@njit()
def _decode(
    codes: int, second: int, stage: int, inverse: np.float32, rows: int, n: int, tables: int,
    scales: int, step: int, out: int,
) -> None:  # fmt: skip
    k = (n + 7) // 8
    t = load_fields(tables)
    stored, rest, kept = scratch_256(), scratch_256(), scratch_256()
    for i in range(rows):
        scale = load_f32(scales + step * i)
        for b in range((k + 31) // 32):
            at, left = k * i + 32 * b, k - 32 * b
            count, to = min(256, n - 256 * b), out + 4 * (n * i + 256 * b)
            _points(codes + 2 * at, left, tables, t, kept, stored)
            if stage == 4:
                _points(second + 2 * at, left, tables, t, kept, rest)
                _write_sum(stored, rest, count, inverse, np.float32(3.75), scale, to)
            elif stage == 3:
                _coarse_points(second + at, left, tables, kept, rest)
                _write_sum(stored, rest, count, inverse, np.float32(2), scale, to)
            else:
                _write(stored, count, scale, to)


@cache
def _tables() -> NDArray[np.uint8]:
    return build_tables()


def decode_rows_lattice(
    codes: NDArray[np.uint16], scales: F32, n: int, out: F32, second: NDArray[Any] | None = None,
    residual_scale: float = 1.0,
) -> None:  # fmt: skip
    """Write the weights of lattice codes, times the scale of their row.

    Parameters
    ----------
    codes
        u16 (rows, ceil(n / 8)), C-contiguous: E8P.
    scales
        f32 (rows,) or (1,).
    n
        Columns.
    out
        f32 (rows, n), C-contiguous.
    second
        Codes of the same shape, C-contiguous, whose points are added divided by
        ``residual_scale``: u8 (E81B) or u16 (E8P).

    Raises
    ------
    ValueError
        When these do not fit one another.
    """
    rows = codes.shape[0]
    fits = codes.shape[1] == -(-n // 8) and out.shape == (rows, n) and len(scales) in (1, rows)
    kinds = codes.dtype == np.uint16 and scales.dtype == np.float32 and out.dtype == np.float32
    if not (fits and kinds and out.flags.c_contiguous and codes.flags.c_contiguous):
        raise ValueError(f"codes {codes.shape}, scales {scales.shape} and out {out.shape} for {n}")
    stage, address = 2, 0
    if second is not None:
        known = second.dtype in (np.uint8, np.uint16) and second.flags.c_contiguous
        if second.shape != codes.shape or not known:
            raise ValueError(f"second stage is {second.dtype} {second.shape}, not {codes.shape}")
        stage, address = (3 if second.dtype == np.uint8 else 4), second.ctypes.data
    scales = np.ascontiguousarray(scales)
    # Two threads may both build the table the first time: each holds on to its own.
    tables = _tables()
    _decode(
        codes.ctypes.data, address, stage, np.float32(1 / residual_scale), rows, n,
        tables.ctypes.data, scales.ctypes.data, 4 if len(scales) > 1 else 0, out.ctypes.data,
    )  # fmt: skip
