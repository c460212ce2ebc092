"""Trellis tiles times a vector: integers of seven bits or of fifteen, and what becomes of rows.

Lane i is segment i of a tile, and step j its weight number j, as in
:mod:`lrc_kernels.simd.tiles`. Where one instruction multiplies bytes in fours (``vpdpbusd``),
integers of seven bits lie four times in a lane and meet the four bytes of a hash at once; that
saves one of three multiplications. Elsewhere, and for fifteen bits, a lane holds two equal 16-bit
numbers. Every path gives the same integers, and floats are added in a fixed order.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from lrc_kernels.simd import neon
from lrc_kernels.simd.dot import halves
from lrc_kernels.simd.paths import path
from lrc_kernels.simd.tiles import add_products, byte_pairs, tile_hashes
from lrc_kernels.simd.values import (
    F32X16,
    I8X64,
    I32X16,
    Vector,
    call,
    constant,
    operation,
    pointer,
    shuffle,
)
from lrc_kernels.trellis_code import BYTES_MEAN

_I64 = ir.IntType(64)
_I32X8 = Vector("i32", 8)
_STEPS = 16
_SUMS = types.UniTuple(I32X16, _STEPS)  # type: ignore[no-untyped-call]


def _all(value: int) -> ir.Constant:
    return constant(I32X16, [value] * 16)


def _load(builder: Any, vector: Vector, address: Any, skip: int) -> Any:
    place = builder.add(address, ir.Constant(_I64, skip))
    return builder.load(pointer(builder, place, vector.ir), align=1)


def _store(builder: Any, value: Any, address: Any, skip: int) -> None:
    place = builder.add(address, ir.Constant(_I64, skip))
    builder.store(value, pointer(builder, place, value.type), align=1)


def _bytes(builder: Any, total: Any, value: Any, x: Any) -> Any:
    """``total`` plus the sum of a lane's bytes times x; None without the instruction.

    On ARM the bytes are less 128: `subtract_means` takes as much less.
    """
    parts = [total, *(builder.bitcast(v, I8X64.ir) for v in (value, x))]
    if path() == "avx512vnni":
        return call(builder, "llvm.x86.avx512.vpdpbusd.512", I32X16.ir, parts)
    if path() == "avxvnni":
        return halves(builder, "llvm.x86.avx512.vpdpbusd.256", _I32X8, parts)
    if path() == "neon":
        return neon.dot_less_128(builder, *parts)
    return None


def _add(builder: Any, total: Any, hashed: Any, x: Any, seven: bool) -> Any:
    found = _bytes(builder, total, hashed, x) if seven else None
    return add_products(builder, total, byte_pairs(builder, hashed), x) if found is None else found


@operation(I32X16, I32X16)
def words_of(builder: Any, value: Any) -> Any:
    """The form of integers of 15 bits: twice 16 bits a lane."""
    low = builder.and_(value, _all(0xFFFF))
    return builder.or_(low, builder.shl(value, _all(16)))


@operation(I32X16, I32X16)
def bytes_of(builder: Any, value: Any) -> Any:
    """The form of integers of 7 bits and a sign that this path multiplies with."""
    if path() in ("avx512vnni", "avxvnni", "neon"):
        return builder.mul(builder.and_(value, _all(0xFF)), _all(0x01010101))
    low = builder.and_(value, _all(0xFFFF))
    return builder.or_(low, builder.shl(value, _all(16)))


def _make_means(seven: bool) -> Any:
    """``total`` less the mean sum of bytes times x, which has one of the two forms."""

    @operation(I32X16, I32X16, I32X16)
    def subtract_means(builder: Any, total: Any, x: Any) -> Any:
        if path() == "generic" or (path() == "neon" and not seven):
            return builder.sub(total, builder.mul(builder.ashr(x, _all(16)), _all(BYTES_MEAN)))
        if seven:
            low, high = BYTES_MEAN // 4, BYTES_MEAN - 3 * (BYTES_MEAN // 4)
            mean = int.from_bytes(bytes([low, low, low, high]), "little", signed=True)
            found = _bytes(builder, _all(0), _all(mean), x)
            if found is not None:
                return builder.sub(total, found)
        half = -BYTES_MEAN // 2 & 0xFFFF
        return add_products(builder, total, _all(half << 16 | half), x)

    return subtract_means


subtract_word_means, subtract_byte_means = _make_means(False), _make_means(True)


def _make_dot(bits: int, seven: bool) -> Any:
    @operation(_SUMS, _SUMS, types.intp, I32X16, I32X16, I32X16)
    def dot_tile(builder: Any, sums: Any, words: Any, x: Any, mask: Any, multiplier: Any) -> Any:
        for j, hashed in enumerate(tile_hashes(builder, words, bits, mask, multiplier)):
            after = _add(builder, builder.extract_value(sums, j), hashed, x, seven)
            sums = builder.insert_value(sums, after, j)
        return sums

    return dot_tile


#: ``dot(sums, words, x, mask, multiplier)``: sums plus those of bytes times x in `words_of`.
dot_words = {bits: _make_dot(bits, False) for bits in (2, 3, 4)}
#: The same with x in `bytes_of`.
dot_bytes = {bits: _make_dot(bits, True) for bits in (2, 3, 4)}


@operation(types.void, types.intp)
def transpose_16(builder: Any, address: Any) -> None:
    """Transpose f32 (16, 16) in memory."""
    rows = [_load(builder, F32X16, address, 64 * j) for j in range(16)]
    for bit in (8, 4, 2, 1):
        # Exchange this bit of the row's number with the same bit of the lane's.
        low = [i if not i & bit else 16 + (i ^ bit) for i in range(16)]
        high = [i ^ bit if not i & bit else 16 + i for i in range(16)]
        exchanged = list(rows)
        for j in (j for j in range(16) if not j & bit):
            exchanged[j] = shuffle(builder, rows[j], rows[j | bit], low)
            exchanged[j | bit] = shuffle(builder, rows[j], rows[j | bit], high)
        rows = exchanged
    for j, row in enumerate(rows):
        _store(builder, row, address, 64 * j)
