"""Packed matrix times one vector: codes are decoded in registers, nothing dense is built.

Each row is summed by one thread in eight fixed float32 lanes, so the result does not depend
on how rows are cut into chunks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc_kernels import lattice_tables as tables
from lrc_kernels._jit import njit

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]


@njit(inline=True)
def _e8p_row(codes: U16, x: F32, rows: F32, signs: F32, shifts: F32) -> np.float32:
    """Sum over one row of codes of <point, x>."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = np.float32(0)
    for k in range(codes.shape[0]):
        s = rows[codes[k] >> 8]
        g = signs[codes[k] & 255]
        h = shifts[codes[k] & 255]
        at = 8 * k
        s0 += (s[0] * g[0] + h) * x[at]
        s1 += (s[1] * g[1] + h) * x[at + 1]
        s2 += (s[2] * g[2] + h) * x[at + 2]
        s3 += (s[3] * g[3] + h) * x[at + 3]
        s4 += (s[4] * g[4] + h) * x[at + 4]
        s5 += (s[5] * g[5] + h) * x[at + 5]
        s6 += (s[6] * g[6] + h) * x[at + 6]
        s7 += (s[7] * g[7] + h) * x[at + 7]
    return ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7))


@njit(inline=True)
def _e81b_row(codes: U8, x: F32, points: F32) -> np.float32:
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = np.float32(0)
    for k in range(codes.shape[0]):
        p = points[codes[k]]
        at = 8 * k
        s0 += p[0] * x[at]
        s1 += p[1] * x[at + 1]
        s2 += p[2] * x[at + 2]
        s3 += p[3] * x[at + 3]
        s4 += p[4] * x[at + 4]
        s5 += p[5] * x[at + 5]
        s6 += p[6] * x[at + 6]
        s7 += p[7] * x[at + 7]
    return ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7))


@njit()
def _matvec_e8p(codes: U16, x: F32, rows: F32, signs: F32, shifts: F32, y: F32) -> None:
    for i in range(codes.shape[0]):
        y[i] = _e8p_row(codes[i], x, rows, signs, shifts)


@njit()
def _matvec_rvq3(
    codes: U16, residual: U8, inverse: np.float32, x: F32,
    rows: F32, signs: F32, shifts: F32, points: F32, y: F32,
) -> None:  # fmt: skip
    for i in range(codes.shape[0]):
        first = _e8p_row(codes[i], x, rows, signs, shifts)
        y[i] = first + inverse * _e81b_row(residual[i], x, points)


@njit()
def _matvec_rvq4(
    codes: U16, residual: U16, inverse: np.float32, x: F32,
    rows: F32, signs: F32, shifts: F32, y: F32,
) -> None:  # fmt: skip
    for i in range(codes.shape[0]):
        first = _e8p_row(codes[i], x, rows, signs, shifts)
        y[i] = first + inverse * _e8p_row(residual[i], x, rows, signs, shifts)


@njit()
def _unpack_row(words: U8, bits: int, codes: U8) -> None:
    """Codes of one packed row; eight codes fill ``bits`` bytes."""
    n = codes.shape[0]
    mask = (1 << bits) - 1
    whole = n // 8
    for g in range(whole):
        pending = np.uint64(0)
        for b in range(bits):
            pending |= np.uint64(words[g * bits + b]) << np.uint64(8 * b)
        for i in range(8):
            codes[8 * g + i] = (pending >> np.uint64(i * bits)) & np.uint64(mask)
    for k in range(8 * whole, n):
        at = (k * bits) >> 3
        pair = np.int64(words[at]) | (np.int64(words[min(at + 1, words.shape[0] - 1)]) << 8)
        codes[k] = (pair >> ((k * bits) & 7)) & mask


@njit()
def _unpack_row4(words: U8, codes: U8) -> None:
    for g in range(codes.shape[0] // 2):
        codes[2 * g] = words[g] & 15
        codes[2 * g + 1] = words[g] >> 4
    if codes.shape[0] % 2:
        codes[codes.shape[0] - 1] = words[codes.shape[0] // 2] & 15


@njit()
def _dot(codes: U8, levels: F32, x: F32, start: int, stop: int) -> np.float32:
    """Sum of ``levels[codes[k]] * x[k]`` over ``start <= k < stop``."""
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = np.float32(0)
    for at in range(start, stop - 7, 8):
        s0 += levels[codes[at]] * x[at]
        s1 += levels[codes[at + 1]] * x[at + 1]
        s2 += levels[codes[at + 2]] * x[at + 2]
        s3 += levels[codes[at + 3]] * x[at + 3]
        s4 += levels[codes[at + 4]] * x[at + 4]
        s5 += levels[codes[at + 5]] * x[at + 5]
        s6 += levels[codes[at + 6]] * x[at + 6]
        s7 += levels[codes[at + 7]] * x[at + 7]
    for at in range(stop - (stop - start) % 8, stop):
        s0 += levels[codes[at]] * x[at]
    return ((s0 + s4) + (s1 + s5)) + ((s2 + s6) + (s3 + s7))


@njit()
def _scaled_dot(codes: U8, levels: F32, scale: F32, group: int, x: F32) -> np.float32:
    total = np.float32(0)
    for g in range(scale.shape[0]):
        stop = min((g + 1) * group, x.shape[0])
        total += scale[g] * _dot(codes, levels, x, g * group, stop)
    return total


@njit()
def _matvec_levels(
    words: U8, bits: int, levels: F32, scales: F32, group: int, x: F32, y: F32
) -> None:
    codes = np.empty(x.shape[0], np.uint8)
    for i in range(words.shape[0]):
        scale = scales[i if scales.shape[0] > 1 else 0]
        if bits == 8:
            y[i] = _scaled_dot(words[i], levels, scale, group, x)
            continue
        if bits == 4:
            _unpack_row4(words[i], codes)
        else:
            _unpack_row(words[i], bits, codes)
        y[i] = _scaled_dot(codes, levels, scale, group, x)


def _vector(x: F32, n: int) -> F32:
    if x.shape != (n,):
        raise ValueError(f"x has shape {x.shape}; the codes need ({n},)")
    return np.ascontiguousarray(x, np.float32)


def _second_stage(codes: U16, residual: NDArray[Any], dtype: type) -> NDArray[Any]:
    if residual.shape != codes.shape or residual.dtype != dtype:
        raise ValueError(
            f"second stage is {residual.dtype} {residual.shape}; the codes need "
            f"{np.dtype(dtype)} {codes.shape}"
        )
    return np.ascontiguousarray(residual)


def matvec_e8p(codes: U16, x: F32) -> F32:
    """``y_i = sum_k <point(codes[i, k]), x[8k : 8k + 8]>``: f32 (m,)."""
    codes = np.ascontiguousarray(codes, np.uint16)
    y = np.empty(codes.shape[0], np.float32)
    x = _vector(x, 8 * codes.shape[1])
    _matvec_e8p(codes, x, *_tables(), y)
    return y


def matvec_e8p_rvq3(codes: U16, residual: U8, residual_scale: float, x: F32) -> F32:
    """E8P plus E81B divided by ``residual_scale``, times ``x``: f32 (m,)."""
    codes = np.ascontiguousarray(codes, np.uint16)
    y = np.empty(codes.shape[0], np.float32)
    inverse = np.float32(1 / residual_scale)
    x = _vector(x, 8 * codes.shape[1])
    residual = _second_stage(codes, residual, np.uint8)
    _matvec_rvq3(codes, residual, inverse, x, *_tables(), tables.e81b_points(), y)
    return y


def matvec_e8p_rvq4(codes: U16, residual: U16, residual_scale: float, x: F32) -> F32:
    """E8P plus E8P divided by ``residual_scale``, times ``x``: f32 (m,)."""
    codes = np.ascontiguousarray(codes, np.uint16)
    y = np.empty(codes.shape[0], np.float32)
    inverse = np.float32(1 / residual_scale)
    x = _vector(x, 8 * codes.shape[1])
    residual = _second_stage(codes, residual, np.uint16)
    _matvec_rvq4(codes, residual, inverse, x, *_tables(), y)
    return y


def matvec_levels(words: U8, bits: int, levels: F32, scales: F32, group_size: int, x: F32) -> F32:
    """Packed scalar codes with scales per row, group or matrix, times ``x``: f32 (m,)."""
    n = x.shape[0]
    group = group_size or n
    if words.shape[1] != (n * bits + 7) // 8 or scales.shape[1] != -(-n // group):
        raise ValueError(
            f"words {words.shape} and scales {scales.shape} do not fit n={n}, bits={bits}, "
            f"group_size={group_size}"
        )
    words = np.ascontiguousarray(words, np.uint8)
    y = np.empty(words.shape[0], np.float32)
    x = _vector(x, n)
    _matvec_levels(words, bits, levels, scales, group, x, y)
    return y


def _tables() -> tuple[F32, F32, F32]:
    return tables.e8p_signed_rows(), tables.e8p_signs(), tables.e8p_shifts()
