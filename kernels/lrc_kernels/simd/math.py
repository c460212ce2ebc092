"""Arithmetic on vector values: conversions, sums, exponentials.

Like :mod:`lrc_kernels.simd.values`: every path gives the same integers, and floats are added in a
fixed order, never contracted.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from lrc_kernels.simd.values import (
    F32X16,
    I16X32,
    I32X16,
    call,
    constant,
    operation,
    shuffle,
)

_I32, _F32 = ir.IntType(32), ir.FloatType()


@operation(I16X32, I16X32)
def popcount_i16(builder: Any, value: Any) -> Any:
    """Bits set in each lane."""
    return call(builder, "llvm.ctpop.v32i16", I16X32.ir, [value])


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


@operation(F32X16, F32X16)
def log1p_f32(builder: Any, value: Any) -> Any:
    """``log(1 + value)`` of numbers from 0 to 1, to about two units in the last place.

    Twice the inverse hyperbolic tangent of ``s = value / (2 + value)``, by its series up to s^15.
    """

    def number(x: float) -> Any:
        return ir.Constant(F32X16.ir, [ir.Constant(_F32, x)] * 16)

    s = builder.fdiv(value, builder.fadd(value, number(2.0)))
    square = builder.fmul(s, s)
    total = number(1 / 15)
    for power in range(13, 0, -2):
        total = builder.fadd(builder.fmul(total, square), number(1 / power))
    return builder.fmul(builder.fadd(s, s), total)
