"""Stored codes and vectors in registers: table lookups, bit fields, changes of order.

Like :mod:`lrc_kernels.simd.values`: every path gives the same bytes.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from lrc_kernels.simd import neon
from lrc_kernels.simd.paths import path
from lrc_kernels.simd.values import (
    F32X16,
    I8X32,
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

_I16, _I32, _I64, _F32 = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()


@operation(I16X32, I16X32, I16X32, I16X32)
def permute_i16(builder: Any, index: Any, low: Any, high: Any) -> Any:
    """``table[index & 63]`` a lane; the table is 32 lanes ``low``, 32 ``high``. AVX-512 only."""
    return call(builder, "llvm.x86.avx512.vpermi2var.hi.512", I16X32.ir, [low, index, high])


@operation(I8X64, types.intp, types.intp, types.intp)
def point_bytes(builder: Any, codes: Any, rows: Any, signs: Any) -> Any:
    """Eight lattice points, 8 bytes each: ``rows[code >> 8] ^ signs[code & 255]`` (u64 tables)."""
    total = ir.Constant(ir.VectorType(_I64, 8), ir.Undefined)
    stored, row_table, sign_table = (
        pointer(builder, at, kind) for at, kind in ((codes, _I16), (rows, _I64), (signs, _I64))
    )
    for k in range(8):
        place = builder.gep(stored, [ir.Constant(_I64, k)])
        code = builder.zext(builder.load(place, align=1), _I64)
        high = builder.lshr(code, ir.Constant(_I64, 8))
        low = builder.and_(code, ir.Constant(_I64, 255))
        row, sign = (
            builder.load(builder.gep(table, [i]), align=1)
            for table, i in ((row_table, high), (sign_table, low))
        )
        total = builder.insert_element(total, builder.xor(row, sign), ir.Constant(_I32, k))
    return builder.bitcast(total, I8X64.ir)


@operation(I8X64, I8X64, I8X64)
def lookup_16(builder: Any, table: Any, index: Any) -> Any:
    """``table[index]`` a byte; ``table`` repeats its 16 entries four times, index below 16."""
    if path() == "avx512vnni":
        return call(builder, "llvm.x86.avx512.pshuf.b.512", I8X64.ir, [table, index])
    if path() in ("avxvnni", "avx2"):
        half = I8X32.ir

        def part(b: Any, t: Any, i: Any) -> Any:
            return call(b, "llvm.x86.avx2.pshuf.b", half, [t, i])

        ends = [list(range(32)), list(range(32, 64))]
        low, high = (
            part(builder, shuffle(builder, table, table, e), shuffle(builder, index, index, e))
            for e in ends
        )
        return shuffle(builder, low, high, list(range(64)))
    if path() == "neon":
        return neon.look_up_16(builder, table, index)
    total = ir.Constant(I8X64.ir, None)
    for value in range(16):
        entry = splat(builder, I8X64, builder.extract_element(table, ir.Constant(_I32, value)))
        same = builder.icmp_unsigned("==", index, constant(I8X64, [value] * 64))
        total = builder.select(same, entry, total)
    return total


@operation(types.void, types.intp, I32X16)
def store_low_bytes(builder: Any, address: Any, value: Any) -> None:
    """Write the low byte of each lane: 16 bytes."""
    kind = Vector("i8", 16).ir
    builder.store(builder.trunc(value, kind), pointer(builder, address, kind), align=1)


@operation(F32X16, I16X16)
def half_to_f32(builder: Any, value: Any) -> Any:
    """Finite float16 bits as floats, exactly and without a conversion instruction."""
    wide = builder.zext(value, I32X16.ir)
    sign = builder.shl(
        builder.and_(wide, constant(I32X16, [0x8000] * 16)), constant(I32X16, [16] * 16)
    )
    rest = builder.shl(
        builder.and_(wide, constant(I32X16, [0x7FFF] * 16)), constant(I32X16, [13] * 16)
    )
    small = builder.fmul(
        builder.bitcast(rest, F32X16.ir), ir.Constant(F32X16.ir, [ir.Constant(_F32, 2.0**112)] * 16)
    )
    bits = builder.or_(builder.bitcast(small, I32X16.ir), sign)
    return builder.bitcast(bits, F32X16.ir)


@operation(F32X16, F32X16, types.intp)
def flip_signs(builder: Any, value: Any, address: Any) -> Any:
    """Negate lane i where bit i of the 16 bits at ``address`` is set."""
    bits = builder.load(pointer(builder, address, _I16), align=1)
    mask = builder.bitcast(bits, ir.VectorType(ir.IntType(1), 16))
    return builder.select(mask, builder.fneg(value), value)


@operation(I16X32, I8X32)
def widen_u8(builder: Any, value: Any) -> Any:
    """Unsigned bytes as 16-bit lanes."""
    return builder.zext(value, I16X32.ir)


@operation(I16X32, types.intp, types.intp)
def load_rows_i16x32(builder: Any, address: Any, stride: Any) -> Any:
    """Eight lanes from each of four rows, ``stride`` bytes apart."""
    kind = Vector("i16", 8).ir
    parts = []
    for row in range(4):
        at = builder.add(address, builder.mul(stride, ir.Constant(_I64, row)))
        parts.append(builder.load(pointer(builder, at, kind), align=1))
    low, high = (shuffle(builder, parts[i], parts[i + 1], list(range(16))) for i in (0, 2))
    return shuffle(builder, low, high, list(range(32)))


def _repeat(vector: Vector) -> Any:
    """The first quarter of a vector from memory, four times over."""
    part = Vector(vector.element, vector.lanes // 4)

    @operation(vector, types.intp)
    def load_repeated(builder: Any, address: Any) -> Any:
        value = builder.load(pointer(builder, address, part.ir), align=1)
        return shuffle(builder, value, value, [i % part.lanes for i in range(vector.lanes)])

    return load_repeated


repeat_i8x16, repeat_f32x4 = _repeat(I8X64), _repeat(F32X16)


def _make_quarter(index: int) -> Any:
    @operation(F32X16, F32X16)
    def quarter(builder: Any, value: Any) -> Any:
        zero = ir.Constant(F32X16.ir, None)
        return shuffle(builder, value, zero, [4 * index + i if i < 4 else 16 for i in range(16)])

    return quarter


#: Lanes 4 i to 4 i + 3 moved to the front, zeros behind them.
first_quarter, second_quarter, third_quarter, last_quarter = (_make_quarter(i) for i in range(4))


@operation(types.void, types.intp, types.intp)
def spread_points(builder: Any, source: Any, target: Any) -> None:
    """Write 256 bytes so that byte 64 j + 2 c + h is byte 8 c + j + 4 h of the source."""
    words = []
    order = [8 * c + j for c in range(8) for j in (0, 4, 1, 5, 2, 6, 3, 7)]
    for part in range(4):
        at = builder.add(source, ir.Constant(_I64, 64 * part))
        value = builder.load(pointer(builder, at, I8X64.ir), align=1)
        words.append(builder.bitcast(shuffle(builder, value, value, order), I16X32.ir))
    even, odd = list(range(0, 64, 2)), list(range(1, 64, 2))
    a, b = (shuffle(builder, words[0], words[1], m) for m in (even, odd))
    c, d = (shuffle(builder, words[2], words[3], m) for m in (even, odd))
    planes = [shuffle(builder, p, q, m) for m in (even, odd) for p, q in ((a, c), (b, d))]
    for j, plane in enumerate(planes):
        at = builder.add(target, ir.Constant(_I64, 64 * j))
        builder.store(plane, pointer(builder, at, I16X32.ir), align=1)


@operation(types.void, types.intp, I8X64, I8X64, I8X64, I8X64)
def store_points(builder: Any, target: Any, w0: Any, w1: Any, w2: Any, w3: Any) -> None:
    """Undo `spread_points` on four planes: 256 bytes in their own order."""
    words = [builder.bitcast(w, I16X32.ir) for w in (w0, w1, w2, w3)]
    for part in range(4):
        # Eight words of each plane: those of codes 8 part to 8 part + 7.
        first, second = ([8 * part + i + 32 * k for i in range(8) for k in (0, 1)] for _ in "ab")
        low = shuffle(builder, words[0], words[1], first)
        high = shuffle(builder, words[2], words[3], second)
        order = [i for c in range(8) for i in (2 * c, 2 * c + 1, 16 + 2 * c, 17 + 2 * c)]
        joined = builder.bitcast(shuffle(builder, low, high, order), I8X64.ir)
        bytes_ = [8 * c + j for c in range(8) for j in (0, 2, 4, 6, 1, 3, 5, 7)]
        at = builder.add(target, ir.Constant(_I64, 64 * part))
        value = shuffle(builder, joined, joined, bytes_)
        builder.store(value, pointer(builder, at, I8X64.ir), align=1)


@operation(F32X16, types.intp)
def bytes_to_f32(builder: Any, address: Any) -> Any:
    """16 unsigned bytes from memory as floats."""
    kind = Vector("i8", 16).ir
    value = builder.load(pointer(builder, address, kind), align=1)
    return builder.uitofp(builder.zext(value, I32X16.ir), F32X16.ir)


def _stride(step: int) -> Any:
    @operation(I8X64, I8X64)
    def take_strided(builder: Any, value: Any) -> Any:
        order = [i for start in range(step) for i in range(start, 64, step)]
        return shuffle(builder, value, value, order)

    return take_strided


def _unstride(step: int) -> Any:
    @operation(I8X64, I8X64)
    def put_back(builder: Any, value: Any) -> Any:
        part = 64 // step
        order = [part * (i % step) + i // step for i in range(64)]
        return shuffle(builder, value, value, order)

    return put_back


#: The inverses of `stride_2` and `stride_4`.
unstride_2, unstride_4 = _unstride(2), _unstride(4)
#: Bytes 0, 2, 4, ... then 1, 3, 5, ...; and the same with steps of four.
stride_2, stride_4 = _stride(2), _stride(4)
