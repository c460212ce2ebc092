"""Whole rows of E8P codes as float32, for products with many vectors at once."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from lrc_kernels._jit import njit
from lrc_kernels.cpu.dot_e8p import FIELDS, build_tables, field_weights, load_fields, take_codes
from lrc_kernels.simd import (
    load_f32,
    load_u8,
    splat_f32x16,
    store_f32,
    store_f32x16,
    store_i8x64,
    store_i16x32,
)
from lrc_kernels.simd_codes import bytes_to_f32, point_bytes, store_points
from lrc_kernels.simd_threads import scratch_256

F32 = NDArray[np.float32]


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


@njit()
def _decode(codes: int, rows: int, n: int, tables: int, scales: int, step: int, out: int) -> None:
    k = (n + 7) // 8
    t = load_fields(tables)
    stored, kept = scratch_256(), scratch_256()
    for i in range(rows):
        scale = load_f32(scales + step * i)
        for b in range((k + 31) // 32):
            c = take_codes(codes + 2 * k * i + 64 * b, k - 32 * b)
            if FIELDS:
                w0, w1, w2, w3 = field_weights(c, t)
                store_points(stored, w0, w1, w2, w3)
            else:
                store_i16x32(kept, c)
                for part in range(4):
                    points = point_bytes(kept + 16 * part, tables, tables + 4096)
                    store_i8x64(stored + 64 * part, points)
            _write(stored, min(256, n - 256 * b), scale, out + 4 * (n * i + 256 * b))


@cache
def _tables() -> NDArray[np.uint8]:
    return build_tables()


def decode_rows_e8p(codes: NDArray[np.uint16], scales: F32, n: int, out: F32) -> None:
    """Write the weights of E8P codes, times the scale of their row.

    Parameters
    ----------
    codes
        u16 (rows, ceil(n / 8)), C-contiguous.
    scales
        f32 (rows,) or (1,).
    n
        Columns.
    out
        f32 (rows, n), C-contiguous.

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
    scales = np.ascontiguousarray(scales)
    _decode(
        codes.ctypes.data, rows, n, _tables().ctypes.data, scales.ctypes.data,
        4 if len(scales) > 1 else 0, out.ctypes.data,
    )  # fmt: skip
