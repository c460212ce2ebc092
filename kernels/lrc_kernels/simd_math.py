"""Arithmetic on vector values: dot products, conversions, sums, exponentials.

Like :mod:`lrc_kernels.simd`: every path gives the same integers, and floats are added in a fixed
order, never contracted.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from lrc_kernels.simd import (
    F32X16,
    I8X64,
    I16X16,
    I16X32,
    I32X16,
    Vector,
    call,
    constant,
    operation,
    path,
    shuffle,
)

_I32, _F32 = ir.IntType(32), ir.FloatType()


@operation(I16X32, I16X32)
def popcount_i16(builder: Any, value: Any) -> Any:
    """Bits set in each lane."""
    return call(builder, "llvm.ctpop.v32i16", I16X32.ir, [value])


@operation(I32X16, I32X16, I8X64, I8X64)
def dot_u8(builder: Any, total: Any, u: Any, x: Any) -> Any:
    """``total`` + sums of four adjacent products, unsigned ``u`` times ``x`` in -127..127."""
    if path() == "avx512vnni":
        return call(builder, "llvm.x86.avx512.vpdpbusd.512", I32X16.ir, [total, u, x])
    if path() == "avx2":
        return builder.add(total, _join(builder, u, x, _dot_avx2))
    return builder.add(total, _dot_generic(builder, u, x))


def _join(builder: Any, u: Any, x: Any, half: Any) -> Any:
    """Work on the lower and the upper 32 bytes apart."""
    ends = [list(range(32)), list(range(32, 64))]
    low, high = (half(builder, shuffle(builder, u, u, e), shuffle(builder, x, x, e)) for e in ends)
    return shuffle(builder, low, high, list(range(16)))


def _dot_avx2(builder: Any, u: Any, x: Any) -> Any:
    """Widen 32 bytes to 16 bits, add products in pairs (vpmaddwd), then the pairs."""
    parts = []
    for start in (0, 16):
        ends = list(range(start, start + 16))
        wide_u = builder.zext(shuffle(builder, u, u, ends), I16X16.ir)
        wide_x = builder.sext(shuffle(builder, x, x, ends), I16X16.ir)
        pairs = ir.VectorType(_I32, 8)
        parts.append(call(builder, "llvm.x86.avx2.pmadd.wd", pairs, [wide_u, wide_x]))
    even = shuffle(builder, parts[0], parts[1], list(range(0, 16, 2)))
    odd = shuffle(builder, parts[0], parts[1], list(range(1, 16, 2)))
    return builder.add(even, odd)


def _dot_generic(builder: Any, u: Any, x: Any) -> Any:
    """Widen to 16 bits, where every product fits, then add in pairs twice."""
    wide = Vector("i16", 64).ir
    product = builder.mul(builder.zext(u, wide), builder.sext(x, wide))
    total = builder.sext(product, Vector("i32", 64).ir)
    return _pairs(builder, _pairs(builder, total, 64), 32)


def _pairs(builder: Any, value: Any, lanes: int) -> Any:
    even = shuffle(builder, value, value, list(range(0, lanes, 2)))
    return builder.add(even, shuffle(builder, value, value, list(range(1, lanes, 2))))


@operation(I32X16, I32X16, I32X16, I32X16, I32X16)
def fold_fours(builder: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Sums of four adjacent lanes of the 64 lanes a, b, c, d."""
    whole = list(range(32))
    low, high = shuffle(builder, a, b, whole), shuffle(builder, c, d, whole)
    total = shuffle(builder, low, high, list(range(64)))
    return _pairs(builder, _pairs(builder, total, 64), 32)


@operation(F32X16, I32X16)
def to_f32(builder: Any, value: Any) -> Any:
    """Integers as floats."""
    return builder.sitofp(value, F32X16.ir)


@operation(I32X16, F32X16)
def to_i32(builder: Any, value: Any) -> Any:
    """Nearest integers, ties to even."""
    rounded = call(builder, "llvm.rint.v16f32", F32X16.ir, [value])
    return builder.fptosi(rounded, I32X16.ir)


@operation(F32X16, F32X16, F32X16)
def largest(builder: Any, a: Any, b: Any) -> Any:
    """The larger of two, lane by lane."""
    return builder.select(builder.fcmp_ordered(">", a, b), a, b)


@operation(F32X16, F32X16, F32X16, F32X16)
def add_signed(builder: Any, total: Any, value: Any, sign: Any) -> Any:
    """``total + value * sign`` with signs of 1.0 or -1.0: exact products, so fused or not."""
    return call(builder, "llvm.fmuladd.v16f32", F32X16.ir, [value, sign, total])


@operation(F32X16, F32X16)
def absolute(builder: Any, value: Any) -> Any:
    """Absolute values."""
    return call(builder, "llvm.fabs.v16f32", F32X16.ir, [value])


def _reduce(builder: Any, value: Any, join: Any) -> Any:
    """Halves are joined until one lane is left."""
    lanes = 16
    while lanes > 1:
        lanes //= 2
        low = shuffle(builder, value, value, list(range(lanes)))
        high = shuffle(builder, value, value, list(range(lanes, 2 * lanes)))
        value = join(low, high)
    return builder.extract_element(value, ir.Constant(_I32, 0))


@operation(types.float32, F32X16)
def sum_f32(builder: Any, value: Any) -> Any:
    """Sum of the lanes, in a fixed order."""
    return _reduce(builder, value, builder.fadd)


@operation(types.float32, F32X16)
def max_f32(builder: Any, value: Any) -> Any:
    """Largest lane."""
    return _reduce(
        builder, value, lambda a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b)
    )


@operation(types.int32, I32X16)
def sum_i32(builder: Any, value: Any) -> Any:
    """Sum of the lanes."""
    return _reduce(builder, value, builder.add)


@operation(F32X16, F32X16)
def hadamard_16(builder: Any, value: Any) -> Any:
    """Unnormalised Walsh-Hadamard transform of the 16 lanes (Sylvester order)."""
    for half in (1, 2, 4, 8):
        swapped = shuffle(builder, value, value, [i ^ half for i in range(16)])
        signs = [ir.Constant(_F32, -1.0 if i & half else 1.0) for i in range(16)]
        value = builder.fadd(swapped, builder.fmul(value, ir.Constant(F32X16.ir, signs)))
    return value


@operation(F32X16, F32X16)
def exp_f32(builder: Any, value: Any) -> Any:
    """``exp`` to about two units in the last place; below -87 the result is that of -87.

    Cody and Waite's reduction by ln 2 in two parts, then the Taylor polynomial of degree 7.
    """

    def number(x: float) -> Any:
        return ir.Constant(F32X16.ir, [ir.Constant(_F32, x)] * 16)

    for bound, order in ((-87.0, ">"), (88.0, "<")):
        inside = builder.fcmp_ordered(order, value, number(bound))
        value = builder.select(inside, value, number(bound))
    scaled = builder.fmul(value, number(1.4426950216293335))
    whole = call(builder, "llvm.rint.v16f32", F32X16.ir, [scaled])
    rest = builder.fsub(value, builder.fmul(whole, number(0.693359375)))
    rest = builder.fadd(rest, builder.fmul(whole, number(2.12194442749023438e-4)))
    total, factorial = number(1 / 5040), 5040
    for degree in range(7, 0, -1):
        factorial //= degree
        total = builder.fadd(builder.fmul(total, rest), number(1 / factorial))
    power = builder.add(builder.fptosi(whole, I32X16.ir), constant(I32X16, [127] * 16))
    two = builder.bitcast(builder.shl(power, constant(I32X16, [23] * 16)), F32X16.ir)
    return builder.fmul(total, two)
