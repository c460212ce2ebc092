"""Tiles of a trellis in registers: lane i is segment i, and step j its weight number j.

Like :mod:`lrc_kernels.simd.values`: every path gives the same integers, and floats are added in a
fixed order. The tiles are those of :mod:`lrc_kernels.trellis_code`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llvmlite import ir
from numba import types

from lrc_kernels.simd import neon
from lrc_kernels.simd.dot import halves
from lrc_kernels.simd.paths import path
from lrc_kernels.simd.values import (
    F32X16,
    I8X64,
    I16X16,
    I16X32,
    I32X16,
    Vector,
    call,
    constant,
    operation,
    pointer,
    shuffle,
    splat,
)
from lrc_kernels.trellis_code import BYTES_MEAN, UNIT

_I64 = ir.IntType(64)
_STEPS = 16


def _several(vector: Vector, count: int) -> types.UniTuple:
    return types.UniTuple(vector, count)  # type: ignore[no-untyped-call]


#: Sums of every step: a row of a segment each.
_SUMS, _TOTALS = _several(I32X16, _STEPS), _several(F32X16, _STEPS)


def _all(value: int) -> ir.Constant:
    return constant(I32X16, [value] * 16)


def _load(builder: Any, vector: Vector, address: Any, skip: int = 0) -> Any:
    place = builder.add(address, ir.Constant(_I64, skip))
    return builder.load(pointer(builder, place, vector.ir), align=1)


def _store(builder: Any, value: Any, address: Any, skip: Any = 0) -> None:
    place = builder.add(address, ir.Constant(_I64, skip) if isinstance(skip, int) else skip)
    builder.store(value, pointer(builder, place, value.type), align=1)


def _words(builder: Any, address: Any, skip: int = 0) -> Any:
    return builder.zext(_load(builder, I16X16, address, skip), I32X16.ir)


def _next(builder: Any, words: Any) -> Any:
    return shuffle(builder, words, words, [(i + 1) % 16 for i in range(16)])


def _pairs(builder: Any, words: Any, bits: int) -> list[Any]:
    """Of each segment word q below word q + 1; behind the last is the next segment's first."""
    found = []
    for q in range(bits - 1):
        two = _load(builder, I16X32, words, 32 * q)
        found.append(shuffle(builder, two, two, [i // 2 + 16 * (i % 2) for i in range(32)]))
    first, last = (_load(builder, I16X32, words, 32 * q) for q in (0, bits - 2))
    # Lanes 16 to 31 of ``last`` and 0 to 15 of ``first``, rotated.
    order = [i for lane in range(16) for i in (16 + lane, 32 + (lane + 1) % 16)]
    found.append(shuffle(builder, last, first, order))
    return [builder.bitcast(pair, I32X16.ir) for pair in found]


def tile_hashes(builder: Any, words: Any, bits: int, mask: Any, multiplier: Any) -> Iterator[Any]:
    """Of each step the states times the multiplier."""
    pairs = _pairs(builder, words, bits)
    for j in range(_STEPS):
        q, skip = divmod(bits * j, 16)
        state = builder.and_(builder.lshr(pairs[q], _all(skip)), mask)
        yield builder.mul(state, multiplier)


def byte_pairs(builder: Any, value: Any) -> Any:
    """Sums of bytes 0 and 1, and of bytes 2 and 3, of each lane, as 16-bit numbers in it."""
    if path() == "generic":
        low = builder.and_(value, _all(0x00FF00FF))
        high = builder.and_(builder.lshr(value, _all(8)), _all(0x00FF00FF))
        return builder.add(low, high)
    if path() == "neon":
        # All four bytes at once: the upper sum is zero.
        return neon.dot_unsigned(builder, _all(0), value, _all(0x01010101))
    parts = [builder.bitcast(value, I8X64.ir), constant(I8X64, [1] * 64)]
    if path() == "avx512vnni":
        sums = call(builder, "llvm.x86.avx512.pmaddubs.w.512", I16X32.ir, parts)
    else:
        sums = halves(builder, "llvm.x86.avx2.pmadd.ub.sw", I16X16, parts)
    return builder.bitcast(sums, I32X16.ir)


def add_products(builder: Any, total: Any, pairs: Any, x: Any) -> Any:
    """``total`` plus the sum of the two 16-bit numbers in a lane times the number twice in x's."""
    if path() in ("neon", "generic"):
        both = pairs
        if path() == "generic":
            both = builder.add(builder.and_(pairs, _all(0xFFFF)), builder.lshr(pairs, _all(16)))
        return builder.add(total, builder.mul(both, builder.ashr(x, _all(16))))
    parts = [builder.bitcast(value, I16X32.ir) for value in (pairs, x)]
    if path() == "avx512vnni":
        products = call(builder, "llvm.x86.avx512.pmaddw.d.512", I32X16.ir, parts)
    else:
        products = halves(builder, "llvm.x86.avx2.pmadd.wd", Vector("i32", 8), parts)
    return builder.add(total, products)


def _sums(builder: Any, value: Any) -> Any:
    pairs = byte_pairs(builder, value)
    return add_products(builder, _all(-BYTES_MEAN), pairs, _all(0x00010001))


def _make_spread(vector: Vector, columns: int) -> Any:
    """``columns`` lanes from memory, each as often as a tile that wide has segments in it."""
    part = Vector(vector.element, columns)

    @operation(vector, types.intp)
    def load_spread(builder: Any, address: Any) -> Any:
        if columns == 1:
            element = vector.ir.element
            one = builder.load(pointer(builder, address, element), align=1)
            return splat(builder, vector, one)
        value = _load(builder, part, address)
        return shuffle(builder, value, value, [i * columns // 16 for i in range(16)])

    return load_spread


#: Loads for tiles of 1, 2, 4, 8 and 16 columns.
spread_i32 = tuple(_make_spread(I32X16, 1 << i) for i in range(5))
spread_f32 = tuple(_make_spread(F32X16, 1 << i) for i in range(5))


@operation(_SUMS)
def no_sums(builder: Any) -> Any:
    """Zeros."""
    return ir.Constant(ir.ArrayType(I32X16.ir, _STEPS), None)


@operation(_TOTALS)
def no_totals(builder: Any) -> Any:
    """Zeros."""
    return ir.Constant(ir.ArrayType(F32X16.ir, _STEPS), None)


def _make_add(bits: int) -> Any:
    @operation(_TOTALS, _TOTALS, types.intp, F32X16, I32X16, I32X16)
    def add_tile(builder: Any, totals: Any, words: Any, x: Any, mask: Any, multiplier: Any) -> Any:
        for j, value in enumerate(tile_hashes(builder, words, bits, mask, multiplier)):
            product = builder.fmul(builder.sitofp(_sums(builder, value), F32X16.ir), x)
            after = builder.fadd(builder.extract_value(totals, j), product)
            totals = builder.insert_value(totals, after, j)
        return totals

    return add_tile


#: The same with values times floats.
add_tile = {bits: _make_add(bits) for bits in (2, 3, 4)}


@operation(types.void, types.intp, _SUMS, I32X16, F32X16)
def add_scaled(builder: Any, target: Any, sums: Any, shift: Any, scale: Any) -> None:
    """Add ``scale`` times (``sums`` plus ``shift``) to f32 (16, 16) in memory."""
    for j in range(_STEPS):
        whole = builder.add(builder.extract_value(sums, j), shift)
        part = builder.fmul(builder.sitofp(whole, F32X16.ir), scale)
        _store(builder, builder.fadd(_load(builder, F32X16, target, 64 * j), part), target, 64 * j)


@operation(types.void, types.intp, _TOTALS)
def store_totals(builder: Any, target: Any, totals: Any) -> None:
    """Write f32 (16, 16)."""
    for j in range(_STEPS):
        _store(builder, builder.extract_value(totals, j), target, 64 * j)


def _exchanged(builder: Any, rows: list[Any]) -> list[Any]:
    """Lanes (column, r) of vectors numbered by tile as lanes (tile, column) of vectors r."""
    tiles = len(rows)
    bit = 1
    while bit < tiles:
        # Exchange this bit of the vector's number with the same bit of the lane's.
        low = [i if not i & bit else 16 + (i ^ bit) for i in range(16)]
        high = [i ^ bit if not i & bit else 16 + i for i in range(16)]
        exchanged = list(rows)
        for t in (t for t in range(tiles) if not t & bit):
            exchanged[t] = shuffle(builder, rows[t], rows[t | bit], low)
            exchanged[t | bit] = shuffle(builder, rows[t], rows[t | bit], high)
        rows = exchanged
        bit *= 2
    order = [c * tiles + t for t in range(tiles) for c in range(16 // tiles)]
    return [shuffle(builder, row, row, order) for row in rows]


def _make_step(tiles: int, last: bool) -> Any:
    found = _several(I32X16, tiles)

    @operation(found, types.intp, types.intp, types.intp, I32X16, I32X16, I32X16)
    def step(
        builder: Any, words: Any, size: Any, left: Any, skip: Any, mask: Any, multiplier: Any
    ) -> Any:
        rows = []
        for t in range(tiles):
            number = ir.Constant(_I64, t)
            exists = builder.icmp_signed("<", number, left)
            number = builder.select(exists, number, ir.Constant(_I64, 0))
            at = builder.add(words, builder.mul(size, number))
            if last:
                first = builder.sub(at, builder.sub(size, ir.Constant(_I64, 32)))
                following = _next(builder, _words(builder, first))
            else:
                following = _words(builder, at, 32)
            pair = builder.or_(_words(builder, at), builder.shl(following, _all(16)))
            state = builder.and_(builder.lshr(pair, skip), mask)
            rows.append(_sums(builder, builder.mul(state, multiplier)))
        value = ir.Constant(ir.ArrayType(I32X16.ir, tiles), ir.Undefined)
        for r, row in enumerate(_exchanged(builder, rows)):
            value = builder.insert_value(value, row, r)
        return value

    return step


def _make_store(tiles: int) -> Any:
    given = _several(I32X16, tiles)

    @operation(types.void, types.intp, types.intp, types.intp, types.intp, given)
    def store_rows(
        builder: Any, target: Any, stride: Any, scales: Any, skip: Any, values: Any
    ) -> None:
        unit = ir.Constant(F32X16.ir, [ir.Constant(ir.FloatType(), 1 / UNIT)] * 16)
        for r in range(tiles):
            scale = builder.load(pointer(builder, scales, ir.FloatType()), align=1)
            value = builder.sitofp(builder.extract_value(values, r), F32X16.ir)
            value = builder.fmul(builder.fmul(value, unit), splat(builder, F32X16, scale))
            _store(builder, value, target)
            target, scales = builder.add(target, stride), builder.add(scales, skip)

    return store_rows


#: By tiles in 16 columns, one step of them: ``step(words, size, left, skip, mask, multiplier)``
#: gives byte sums less their mean, vectors of 16 columns of a row each, of tiles ``size`` bytes
#: apart of which ``left`` exist; the second form is for the last word of segments. ``store(target,
#: stride, scales, skip, values)`` writes them as weights times the scale of each row.
BLOCKS = {
    tiles: (_make_step(tiles, False), _make_step(tiles, True), _make_store(tiles))
    for tiles in (1, 2, 4, 8, 16)
}
