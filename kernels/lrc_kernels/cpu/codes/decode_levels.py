"""Whole rows of scalar codes as float32, for products with many vectors at once."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrc_kernels._jit import njit
from lrc_kernels.cpu.codes.expand import expand
from lrc_kernels.simd.codes import bytes_to_f32, lookup_16, unstride_2, unstride_4
from lrc_kernels.simd.values import (
    load_f32,
    load_i8x64,
    load_u8,
    splat_f32x16,
    store_f32,
    store_f32x16,
    store_i8x64,
)

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
#: Of `decode`: its table, unit, centre, levels, scales, step, groups and group.
Checked: TypeAlias = tuple[int, np.float32, np.float32, int, int, int, int, int]


@njit()
def _in_order(bits: int, units: int, table: int, codes: int) -> None:
    """Undo the strides of `expand`; replace codes by what the table (0: none) says of them."""
    entries = load_i8x64(table if table != 0 else codes)
    for u in range(units):
        values = load_i8x64(codes + 64 * u)
        if bits == 4:
            values = unstride_2(values)
        elif bits == 2:
            values = unstride_4(values)
        if table != 0:
            values = lookup_16(entries, values)
        store_i8x64(codes + 64 * u, values)


@njit(inline=True)
def _from_bytes(stored: int, count: int, centre: np.float32, scale: np.float32, out: int) -> None:
    whole = count // 16 * 16
    middle, factor = splat_f32x16(centre), splat_f32x16(scale)
    for i in range(0, whole, 16):
        store_f32x16(out + 4 * i, (bytes_to_f32(stored + i) - middle) * factor)
    for i in range(whole, count):
        store_f32(out + 4 * i, (np.float32(load_u8(stored + i)) - centre) * scale)


@njit()
def decode(
    bits: int, words: int, rows: int, n: int, table: int, unit: np.float32, centre: np.float32,
    levels: int, scales: int, step: int, groups: int, group: int, work: int, out: int,
) -> None:  # fmt: skip
    """Rows to f32 (rows, n). ``table`` to ``group``: of `checked`; ``work``: n bytes, in 64s."""
    size, units = (n * bits + 7) // 8, (n + 63) // 64
    for i in range(rows):
        expand(bits, words + size * i, size, units, work)
        if table != 0 or bits == 2 or bits == 4:
            _in_order(bits, units, table, work)
        for g in range(groups):
            start = group * g
            count = min(group, n - start)
            scale = load_f32(scales + step * i + 4 * g)
            to = out + 4 * (n * i + start)
            if levels == 0:
                _from_bytes(work + start, count, centre, unit * scale, to)
            else:
                for j in range(count):
                    value = load_f32(levels + 4 * load_u8(work + start + j))
                    store_f32(to + 4 * j, value * scale)


def decode_rows_scalar(
    words: U8, bits: int, scales: F32, group_size: int, out: F32, *, levels: F32 | None = None,
    entries: U8 | None = None, unit: float = 1.0, centre: float = 0.0,
) -> None:  # fmt: skip
    """Write the weights of packed scalar codes, times their scale; see `checked`.

    Parameters
    ----------
    out
        f32 (rows, n), C-contiguous.

    Raises
    ------
    ValueError
        When these do not fit one another.
    """
    rows, n = out.shape
    if not out.flags.c_contiguous or out.dtype != np.float32 or len(words) != rows:
        raise ValueError(f"words {words.shape} do not fit {out.dtype} {out.shape}")
    known, _alive = checked(words, bits, scales, group_size, n, levels, entries, unit, centre)
    work = np.empty(max(1, -(-n // 64)) * 64, np.uint8)
    decode(bits, words.ctypes.data, rows, n, *known, work.ctypes.data, out.ctypes.data)


def checked(
    words: U8, bits: int, scales: F32, group_size: int, n: int, levels: F32 | None = None,
    entries: U8 | None = None, unit: float = 1.0, centre: float = 0.0,
) -> tuple[Checked, F32]:  # fmt: skip
    """Arguments of `decode` from its table to its groups, and an array that they lead to.

    Parameters
    ----------
    words
        u8 (rows, ceil(n * bits / 8)), C-contiguous; 2 to 8 bits.
    scales
        f32 (rows or 1, groups).
    group_size
        Columns that share a scale; 0: the whole row.
    n
        Columns.
    levels
        f32 (2**bits,): values of the codes. Without it code c is ``unit * (entries[c] -
        centre)``, which is faster, with ``entries`` u8 (64,), 16 bytes four times over, for up
        to 4 bits, or None: c itself.

    Raises
    ------
    ValueError
        When these do not fit one another.
    """
    rows, group = len(words), group_size or max(n, 1)
    groups = -(-n // group) if n else 1
    fits = words.shape == (rows, -(-n * bits // 8)) and 2 <= bits <= 8
    scaled = scales.shape in ((rows, groups), (1, groups)) and scales.dtype == np.float32
    if not (fits and scaled and words.flags.c_contiguous and words.dtype == np.uint8):
        raise ValueError(f"words {words.shape} and scales {scales.shape} do not fit {n} columns")
    if entries is not None and (bits > 4 or entries.shape != (64,) or entries.dtype != np.uint8):
        raise ValueError(f"entries {entries.shape} are not a table for {bits} bits")
    if levels is not None and (levels.shape != (1 << bits,) or levels.dtype != np.float32):
        raise ValueError(f"levels {levels.shape} are not those of {bits} bits")
    scales = np.ascontiguousarray(scales)
    known = (
        0 if entries is None else entries.ctypes.data, np.float32(unit), np.float32(centre),
        0 if levels is None else levels.ctypes.data, scales.ctypes.data,
        4 * groups if scales.shape[0] > 1 else 0, groups, group,
    )  # fmt: skip
    return known, scales
