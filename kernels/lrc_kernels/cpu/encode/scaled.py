"""Codes of single weights under scales that stretches of a row have, and those scales.

A weight is ``d s table[c] - dmin m``, in float32: s and m are whole, of a stretch of columns; d and
dmin are float16 numbers, of a block of stretches. Rows are independent.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc_kernels._jit import njit

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I16 = NDArray[np.int16]
U8 = NDArray[np.uint8]

#: Sweeps of codes, scales and mins to one of d and dmin, which takes as long.
UNITS_EVERY = 3
#: Largest float16.
_MOST = 65504.0


@njit(inline=True)
def _nearest(z: Any, table: F32, least: Any) -> Any:
    """Index, from ``least`` on, of the entry of an ascending table that is nearest to z."""
    count = table.shape[0]
    if table[count - 1] - table[0] == count - 1:
        return int(min(max(np.rint(z - table[0]), least), count - 1))
    code = least
    while code + 1 < count and z > 0.5 * (table[code] + table[code + 1]):
        code += 1
    return code


@njit(inline=True)
def value_of(d: Any, s: Any, entry: Any, dmin: Any, m: Any) -> Any:
    """One weight, rounded after every step."""
    scale = np.float32(d * np.float32(s))
    offset = np.float32(dmin * np.float32(m))
    return np.float32(np.float32(scale * entry) - offset)


@njit(inline=True)
def _code(wanted: Any, d: Any, s: Any, dmin: Any, m: Any, table: F32, least: Any) -> Any:
    scale = np.float32(d * np.float32(s))
    z = 0.0
    if scale != 0:
        z = (wanted + np.float32(dmin * np.float32(m))) / scale
    return _nearest(z, table, least)


@njit()
def round_columns(
    W: F32, target: F32, within: F32, d: F32, s: I16, dmin: F32, m: I16, table: F32, least: int
) -> U8:
    """Codes u8 (m, size) of one block from the last column to the first.

    Parameters
    ----------
    W, target : float32 (m, size)
        Weights, and what feedback from later blocks has made of them.
    within : float32 (size, size)
        Strictly lower: feedback inside the block.
    d, dmin : float32 (m,)
    s, m : int16 (m, stretches)
    """
    rows, size = W.shape
    stretch = size // s.shape[1]
    codes = np.empty((rows, size), np.uint8)
    moved = np.empty(size, np.float32)
    for i in range(rows):
        moved[:] = target[i]
        for j in range(size - 1, -1, -1):
            k = j // stretch
            code = _code(moved[j], d[i], s[i, k], dmin[i], m[i, k], table, least)
            codes[i, j] = code
            error = W[i, j] - value_of(d[i], s[i, k], table[code], dmin[i], m[i, k])
            for q in range(j):
                moved[q] += error * within[j, q]
    return codes


@njit(inline=True)
def _half(x: Any) -> Any:
    """The nearest finite float16, as float32."""
    if x == 0:
        return np.float32(0)
    quantum = math.ldexp(1.0, max(math.frexp(x)[1] - 1, -14) - 10)
    return np.float32(min(max(np.rint(x / quantum) * quantum, -_MOST), _MOST))


@njit(inline=True)
def gain_of(H: F32, g: F64, delta: F64, a: Any, z: Any) -> Any:
    """How far the loss falls when ``delta`` is added to the values of columns a to z."""
    total = 0.0
    for j in range(a, z):
        total += delta[j] * (2.0 * g[j] - _row(H, delta, a, j))
    return total


@njit(inline=True)
def _row(H: F32, delta: F64, a: Any, j: Any) -> Any:
    """Row j of H times ``delta``, of columns a to j; H is symmetric: earlier ones count twice."""
    lanes = np.zeros(8, np.float64)
    whole = a + (j - a) // 8 * 8
    for q in range(a, whole, 8):
        for lane in range(8):
            lanes[lane] += H[j, q + lane] * delta[q + lane]
    inner = lanes.sum()
    for q in range(whole, j):
        inner += H[j, q] * delta[q]
    return 2.0 * inner + H[j, j] * delta[j]


@njit(inline=True)
def add_change(H: F32, g: F64, values: F32, delta: F64, a: Any, z: Any) -> None:
    """Take ``delta`` into values, and out of the gradient."""
    n = g.shape[0]
    for j in range(a, z):
        change = delta[j]
        if change != 0:
            values[j] += np.float32(change)
            for q in range(n):
                g[q] -= change * H[j, q]


@njit(inline=True)
def try_numbers(
    H: F32, g: F64, values: F32, codes: U8, table: F32, stretch: Any, a: Any, z: Any,
    d: Any, s: I16, dmin: Any, m: I16, k: Any, ds: Any, dm: Any, delta: F64,
) -> Any:  # fmt: skip
    """Gain of columns a to z under other numbers: d, dmin, and in stretch k ds and dm more."""
    for j in range(a, z):
        own = j // stretch
        more = 1 if own == k else 0
        fresh = value_of(d, s[own] + more * ds, table[codes[j]], dmin, m[own] + more * dm)
        delta[j] = np.float64(fresh) - np.float64(values[j])
    return gain_of(H, g, delta, a, z)


@njit()
def polish_columns(
    gradient: F32, H: F32, table: F32, least: int,
    range_s: tuple[int, int], range_m: tuple[int, int], sweeps: int,
    codes_work: U8, s_work: I16, m_work: I16, d_work: F32, dmin_work: F32, values_work: F32,
) -> int:  # fmt: skip
    """Coordinate descent on codes, scales and mins; a move is made only if the loss falls.

    Parameters
    ----------
    gradient : float32 (m, n)
        (W - values) H.
    range_s, range_m : two ints
        Least and largest s and m; equal ones are not moved.
    codes_work u8, values_work float32 (m, n), s_work, m_work int16 (m, stretches), d_work, \
    dmin_work float32 (m, blocks)
        Where to begin, and what is found.

    Returns
    -------
    int
        Moves made.
    """
    rows, n = gradient.shape
    stretch, block = n // s_work.shape[1], n // d_work.shape[1]
    g, delta = np.empty(n, np.float64), np.zeros(n, np.float64)
    total = 0
    for i in range(rows):
        g[:] = gradient[i]
        codes, values, s, m = codes_work[i], values_work[i], s_work[i], m_work[i]
        for sweep in range(sweeps):
            moved = 0
            for b in range(d_work.shape[1] - 1, -1, -1):
                for k in range((b + 1) * block // stretch - 1, b * block // stretch - 1, -1):
                    a, z = k * stretch, (k + 1) * stretch
                    for j in range(z - 1, a - 1, -1):
                        if H[j, j] <= 0:
                            continue
                        wanted = values[j] + g[j] / H[j, j]
                        code = _code(
                            wanted, d_work[i, b], s[k], dmin_work[i, b], m[k], table, least
                        )
                        if code == codes[j]:
                            continue
                        fresh = value_of(d_work[i, b], s[k], table[code], dmin_work[i, b], m[k])
                        change = np.float64(fresh) - np.float64(values[j])
                        if change * (H[j, j] * change - 2.0 * g[j]) < 0:
                            codes[j], values[j] = code, fresh
                            for q in range(n):
                                g[q] -= change * H[j, q]
                            moved += 1
                    for way in range(4):
                        ds = (1, -1, 0, 0)[way]
                        dm = (0, 0, 1, -1)[way]
                        if not (
                            range_s[0] <= s[k] + ds <= range_s[1]
                            and range_m[0] <= m[k] + dm <= range_m[1]
                        ):
                            continue
                        gain = try_numbers(
                            H, g, values, codes, table, stretch, a, z,
                            d_work[i, b], s, dmin_work[i, b], m, k, ds, dm, delta,
                        )  # fmt: skip
                        if gain > 0:
                            add_change(H, g, values, delta, a, z)
                            s[k] += ds
                            m[k] += dm
                            moved += 1
                if sweep % UNITS_EVERY == 0:
                    moved += move_units(
                    H, g, values, codes, table, stretch, b * block, (b + 1) * block,
                    s, m, d_work[i], dmin_work[i], b, delta,
                )  # fmt: skip
            total += moved
            if moved == 0:
                break
        for j in range(n):  # sums of changes are rounded: say what the numbers stand for
            k, b = j // stretch, j // block
            values[j] = value_of(d_work[i, b], s[k], table[codes[j]], dmin_work[i, b], m[k])
    return total


@njit(inline=True)
def move_units(
    H: F32, g: F64, values: F32, codes: U8, table: F32, stretch: Any, a: Any, z: Any,
    s: I16, m: I16, d: F32, dmin: F32, b: Any, delta: F64,
) -> Any:  # fmt: skip
    """Bring d, then dmin, of block b to where the loss is least; the number of moves."""
    moved = 0
    for which in range(2):
        for j in range(a, z):
            k = j // stretch
            delta[j] = s[k] * table[codes[j]] if which == 0 else -float(m[k])
        slope, curve = 0.0, 0.0
        for j in range(a, z):
            slope += delta[j] * g[j]
            curve += delta[j] * _row(H, delta, a, j)
        if curve <= 0:
            continue
        fresh_d, fresh_m = d[b], dmin[b]
        if which == 0:
            fresh_d = _half(d[b] + slope / curve)
        else:
            fresh_m = _half(dmin[b] + slope / curve)
        if fresh_d == d[b] and fresh_m == dmin[b]:
            continue
        gain = try_numbers(
            H, g, values, codes, table, stretch, a, z, fresh_d, s, fresh_m, m, -1, 0, 0, delta
        )
        if gain > 0:
            add_change(H, g, values, delta, a, z)
            d[b], dmin[b] = fresh_d, fresh_m
            moved += 1
    return moved
