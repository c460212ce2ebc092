"""E8P codes decoded in registers, 32 at a time: AVX-512 only.

The 256 rows lie in eight registers as eight 2-bit fields each; a sign bit becomes a mask. What
comes out are the bytes w of :mod:`~lrc_kernels.cpu.dot.dot_e8p`, spread over four planes: plane j
holds the entries j and j + 4 of each code, beside each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lrc_kernels._jit import njit
from lrc_kernels.simd.codes import permute_i16
from lrc_kernels.simd.math import popcount_i16
from lrc_kernels.simd.paths import path
from lrc_kernels.simd.values import (
    bytes_of_i16,
    load_i16x32,
    splat_i8x64,
    splat_i16x32,
    where_i8,
    where_i16,
)

#: Whether codes are decoded this way; else by two tables of 8-byte points.
FIELDS = path() == "avx512vnni"


@njit(inline=True)
def load_fields(tables: Any) -> Any:
    """The 256 rows as eight registers of 2-bit fields, to stay there."""
    return (
        load_i16x32(tables),
        load_i16x32(tables + 64),
        load_i16x32(tables + 128),
        load_i16x32(tables + 192),
        load_i16x32(tables + 256),
        load_i16x32(tables + 320),
        load_i16x32(tables + 384),
        load_i16x32(tables + 448),
    )


@njit(inline=True)
def field_weights(c: Any, t: Any) -> Any:
    """Bytes w of 32 codes, spread over four planes."""
    four = splat_i16x32(np.int16(4))
    six = splat_i8x64(np.int8(6))
    row = c >> splat_i16x32(np.int16(8))
    third = c & splat_i16x32(np.int16(0x4000))
    fields = where_i16(
        c & splat_i16x32(np.int16(-32768)),
        where_i16(third, permute_i16(row, t[6], t[7]), permute_i16(row, t[4], t[5])),
        where_i16(third, permute_i16(row, t[2], t[3]), permute_i16(row, t[0], t[1])),
    )
    low_bits = c & splat_i16x32(np.int16(0xFE))
    odd = popcount_i16((fields & splat_i16x32(np.int16(0x5555))) ^ low_bits)
    upper = (c & splat_i16x32(np.int16(0xF0))) << four
    signs = bytes_of_i16(low_bits | (odd & splat_i16x32(np.int16(1))) | upper)
    lowest = c & splat_i16x32(np.int16(1))
    b = bytes_of_i16((lowest << splat_i16x32(np.int16(8))) | lowest)
    minus, plus = b ^ splat_i8x64(np.int8(7)), b ^ splat_i8x64(np.int8(9))
    bit = where_i8(signs & splat_i8x64(np.int8(1)), minus, plus)
    w0 = (bytes_of_i16(fields << splat_i16x32(np.int16(1))) & six) ^ bit
    bit = where_i8(signs & splat_i8x64(np.int8(2)), minus, plus)
    w1 = (bytes_of_i16(fields >> splat_i16x32(np.int16(1))) & six) ^ bit
    bit = where_i8(signs & splat_i8x64(np.int8(4)), minus, plus)
    w2 = (bytes_of_i16(fields >> splat_i16x32(np.int16(3))) & six) ^ bit
    bit = where_i8(signs & splat_i8x64(np.int8(8)), minus, plus)
    w3 = (bytes_of_i16(fields >> splat_i16x32(np.int16(5))) & six) ^ bit
    return w0, w1, w2, w3


@njit(inline=True)
def _lookup(row: Any, upper: Any, third: Any, table: Any) -> Any:
    """256 entries of 16 bits, 32 at once; ``upper``, ``third``: bits 7 and 6 of row."""
    return where_i16(
        upper,
        where_i16(
            third,
            permute_i16(row, load_i16x32(table + 384), load_i16x32(table + 448)),
            permute_i16(row, load_i16x32(table + 256), load_i16x32(table + 320)),
        ),
        where_i16(
            third,
            permute_i16(row, load_i16x32(table + 128), load_i16x32(table + 192)),
            permute_i16(row, load_i16x32(table), load_i16x32(table + 64)),
        ),
    )


@njit(inline=True)
def coarse_weights(c: Any, table: Any) -> Any:
    """Bytes w of 32 E81B codes, widened to 16 bits, spread over four planes."""
    nibble, four = splat_i8x64(np.int8(15)), splat_i16x32(np.int16(4))
    upper, third = c & splat_i16x32(np.int16(128)), c & splat_i16x32(np.int16(64))
    near = _lookup(c, upper, third, table)
    far = _lookup(c, upper, third, table + 512)
    return (
        bytes_of_i16(near) & nibble,
        bytes_of_i16(near >> four) & nibble,
        bytes_of_i16(far) & nibble,
        bytes_of_i16(far >> four) & nibble,
    )
