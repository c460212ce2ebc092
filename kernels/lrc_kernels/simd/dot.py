"""Sums of products of unsigned and signed bytes.

Like :mod:`lrc_kernels.simd.values`: every path gives the same integers. AVX2 has no exact product
of bytes: ``vpmaddubsw`` adds two products and saturates at 16 bits. So callers say when two
cannot reach that (`dot_small`), and where they can, the weights' highest bit is multiplied apart.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from lrc_kernels.simd import neon
from lrc_kernels.simd.paths import path
from lrc_kernels.simd.values import (
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
)

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_I32X8 = Vector("i32", 8)


def _half(builder: Any, value: Any, upper: bool) -> Any:
    lanes = value.type.count // 2
    return shuffle(builder, value, value, [i + lanes * upper for i in range(lanes)])


def halves(builder: Any, name: str, result: Vector, values: list[Any]) -> Any:
    """Call an intrinsic on the lower and on the upper halves of 512-bit values."""
    low, high = (
        call(builder, name, result.ir, [_half(builder, v, upper) for v in values])
        for upper in (False, True)
    )
    return shuffle(builder, low, high, list(range(2 * result.lanes)))


def _even_odd(builder: Any, value: Any) -> tuple[Any, Any]:
    lanes = value.type.count
    even, odd = (shuffle(builder, value, value, list(range(s, lanes, 2))) for s in (0, 1))
    return even, odd


def _pairs(builder: Any, value: Any) -> Any:
    """Sums of two adjacent lanes."""
    return builder.add(*_even_odd(builder, value))


def _words(builder: Any, u: Any, x: Any) -> Any:
    """Sums of two adjacent products, which fit 16 bits: 32 lanes."""
    if path() == "avx2":
        return halves(builder, "llvm.x86.avx2.pmadd.ub.sw", I16X16, [u, x])
    products = (
        builder.mul(builder.zext(a, I16X32.ir), builder.sext(b, I16X32.ir))
        for a, b in zip(_even_odd(builder, u), _even_odd(builder, x), strict=True)
    )
    return builder.add(*products)


def _lanes(builder: Any, words: Any) -> Any:
    """Sums of two adjacent 16-bit lanes: 16 lanes of 32 bits."""
    if path() == "avx2":
        return halves(
            builder, "llvm.x86.avx2.pmadd.wd", _I32X8, [words, constant(I16X32, [1] * 32)]
        )
    even, odd = _even_odd(builder, words)
    return builder.add(builder.sext(even, I32X16.ir), builder.sext(odd, I32X16.ir))


def _in_fours(builder: Any, total: Any, u: Any, x: Any) -> Any:
    """``total`` + sums of four adjacent products by one instruction; None without it."""
    if path() == "avx512vnni":
        return call(builder, "llvm.x86.avx512.vpdpbusd.512", I32X16.ir, [total, u, x])
    if path() == "avxvnni":
        return halves(builder, "llvm.x86.avx512.vpdpbusd.256", _I32X8, [total, u, x])
    if path() == "neon":
        return neon.dot_mixed(builder, total, u, x)
    return None


def _add_small(builder: Any, total: Any, u: Any, x: Any) -> Any:
    fast = _in_fours(builder, total, u, x)
    return builder.add(total, _lanes(builder, _words(builder, u, x))) if fast is None else fast


def sum_bytes(builder: Any, total: Any, value: Any) -> Any:
    """IR of ``total`` plus the sum of the four unsigned bytes of each 32-bit lane."""
    u, ones = builder.bitcast(value, I8X64.ir), constant(I8X64, [1] * 64)
    if path() == "neon":
        return neon.dot_unsigned(builder, total, u, ones)
    fast = _in_fours(builder, total, u, ones)
    return builder.add(total, _lanes(builder, _words(builder, u, ones))) if fast is None else fast


@operation(I32X16, I32X16, I8X64, I8X64)
def dot_small(builder: Any, total: Any, u: Any, x: Any) -> Any:
    """``total`` + sums of four adjacent products of unsigned ``u`` and signed ``x``.

    Either ``u`` is below 128 and ``|x|`` too, or ``|x|`` is at most 64.
    """
    return _add_small(builder, total, u, x)


@operation(I32X16, I32X16, I8X64, I8X64)
def dot_seven(builder: Any, total: Any, u: Any, x: Any) -> Any:
    """The same where both ``u`` and ``|x|`` are below 128."""
    if path() == "neon":
        return neon.dot_signed(builder, total, u, x)
    return _add_small(builder, total, u, x)


@operation(I32X16, I32X16, I8X64, I8X64)
def dot_u8(builder: Any, total: Any, u: Any, x: Any) -> Any:
    """``total`` + sums of four adjacent products, unsigned ``u`` times ``x`` in -127..127."""
    fast = _in_fours(builder, total, u, x)
    if fast is not None:
        return fast
    for bits in (127, 128):
        part = builder.and_(u, constant(I8X64, [bits] * 64))
        total = builder.add(total, _lanes(builder, _words(builder, part, x)))
    return total


@operation(I32X16, types.intp, types.intp, types.intp, types.intp, types.intp)
def dot_points(builder: Any, codes: Any, rows: Any, signs: Any, x: Any, low: Any) -> Any:
    """32 lattice points times the pairs at ``x`` and ``low``, in lanes of two points.

    A point is ``rows[code >> 8] ^ signs[code & 255]``, eight bytes below 32 each. Activations
    lie in blocks of 256 as `spread_words` leaves them.
    """
    planes = _points(builder, codes, rows, signs)
    high, rest = (_two_points(builder, planes, at) for at in (x, low))
    return builder.add(builder.shl(high, constant(I32X16, [7] * 16)), rest)


def _points(builder: Any, codes: Any, rows: Any, signs: Any) -> list[Any]:
    """Points 4 p + j as eight bytes at place p of plane j."""
    stored, row_table, sign_table = (pointer(builder, at, _I64) for at in (codes, rows, signs))
    empty = ir.Constant(ir.VectorType(_I64, 8), ir.Undefined)
    found, flips = [empty] * 4, [empty] * 4
    byte = ir.Constant(_I64, 255)
    for p in range(8):
        four = builder.load(builder.gep(stored, [ir.Constant(_I64, p)]), align=1)
        for j in range(4):
            low = builder.and_(builder.lshr(four, ir.Constant(_I64, 16 * j)), byte)
            high = builder.and_(builder.lshr(four, ir.Constant(_I64, 16 * j + 8)), byte)
            row = builder.load(builder.gep(row_table, [high]), align=1)
            flip = builder.load(builder.gep(sign_table, [low]), align=1)
            found[j] = builder.insert_element(found[j], row, ir.Constant(_I32, p))
            flips[j] = builder.insert_element(flips[j], flip, ir.Constant(_I32, p))
    return [builder.bitcast(builder.xor(a, b), I8X64.ir) for a, b in zip(found, flips, strict=True)]


def _two_points(builder: Any, planes: list[Any], x: Any) -> Any:
    """Planes times 256 activations: lane 2 p is points 4 p and 4 p + 1, lane 2 p + 1 the next."""
    sums = []
    for j in (0, 2):
        u = planes[j : j + 2]
        at = [builder.add(x, ir.Constant(_I64, 64 * i)) for i in (j, j + 1)]
        v = [builder.load(pointer(builder, a, I8X64.ir), align=1) for a in at]
        total = ir.Constant(I32X16.ir, None)
        if path() in ("avx512vnni", "avxvnni", "neon"):
            add = neon.dot_signed if path() == "neon" else _in_fours
            for a, b in zip(u, v, strict=True):
                total = add(builder, total, a, b)
        else:
            words = (_words(builder, a, b) for a, b in zip(u, v, strict=True))
            total = _lanes(builder, builder.add(*words))
        sums.append(total)
    first = [i + 16 * (i % 2) for i in range(16)]
    second = [(i ^ 1) + 16 * (i % 2) for i in range(16)]
    return builder.add(*(shuffle(builder, sums[0], sums[1], m) for m in (first, second)))


@operation(types.void, types.intp, types.intp)
def spread_words(builder: Any, source: Any, target: Any) -> None:
    """Write 256 bytes so that eight bytes number 8 j + p are number 4 p + j of the source."""
    read, written = (pointer(builder, at, _I64) for at in (source, target))
    for j in range(4):
        for p in range(8):
            value = builder.load(builder.gep(read, [ir.Constant(_I64, 4 * p + j)]), align=1)
            builder.store(value, builder.gep(written, [ir.Constant(_I64, 8 * j + p)]), align=1)
