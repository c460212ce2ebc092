"""64 packed codes times 64 activations of 15 bits, as AVX2 does it best: by words of 16 bits.

A product of bytes would be exact only for small codes, and activations of 15 bits need two of them;
one of words takes such an activation whole. Even codes and odd ones are multiplied apart, so a word
is made of a code by shifts and masks alone. Everything is done by halves, in 256-bit registers,
so that sums stay there.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from lrc_kernels.simd.values import (
    F32X16,
    I8X32,
    I8X64,
    I16X16,
    I16X32,
    Vector,
    call,
    constant,
    operation,
    pointer,
    shuffle,
    splat,
)

_I64, _F32 = ir.IntType(64), ir.FloatType()
_I8X16, _I32X8, _F32X8 = Vector("i8", 16), Vector("i32", 8), Vector("f32", 8)
_QUADS = ir.VectorType(_I64, 4)


def _at(builder: Any, address: Any, skip: int) -> Any:
    return builder.add(address, ir.Constant(_I64, skip))


def _load(builder: Any, kind: ir.Type, address: Any, skip: int) -> Any:
    return builder.load(pointer(builder, _at(builder, address, skip), kind), align=1)


def _words(value: int) -> ir.Constant:
    return constant(I16X16, [value] * 16)


def _down(builder: Any, words: Any, bits: int) -> Any:
    return builder.lshr(words, _words(bits)) if bits else words


def _bytes_of_half(builder: Any, bits: int, codes: Any, half: int) -> Any:
    """Words whose low byte is an even code of a half's and whose high byte the next odd one."""
    if bits == 8:
        return _load(builder, I16X16.ir, codes, 32 * half)
    if bits == 4:
        words = _load(builder, I16X16.ir, codes, 0)
        return builder.and_(_down(builder, words, 4 * half), _words(0x0F0F))
    stored = _load(builder, _I8X16.ir, codes, 0)
    twice = builder.bitcast(shuffle(builder, stored, stored, list(range(16)) * 2), _QUADS)
    steps = ir.Constant(_QUADS, [4 * half, 4 * half, 4 * half + 2, 4 * half + 2])
    words = builder.bitcast(builder.lshr(twice, steps), I16X16.ir)
    return builder.and_(words, _words(0x0303))


def _crossing(builder: Any, bits: int, codes: Any, half: int) -> tuple[Any, Any]:
    """Even and odd codes of 3, 5, 6 or 7 bits of a half: 16 lie in so many pairs of bytes."""
    first, second = 4 * bits * half, 4 * bits * half + 2 * bits
    ahead = second - 16 if half else first
    if half:
        # One load: the second 16 are where its upper lane begins, the first ones in the lower.
        data = _load(builder, I8X32.ir, codes, ahead)
    else:
        low, high = (_load(builder, _I8X16.ir, codes, skip) for skip in (first, second))
        data = shuffle(builder, low, high, list(range(32)))

    def windows(odd: int, width: int) -> Any:
        """Words with the bits of each second code's place at their top."""
        starts = [bits * (2 * w + odd) for w in range(8)]
        order = [
            16 * lane + min(skip + byte, 15)
            for lane, skip in ((0, first - ahead), (1, 0))
            for s in starts
            for byte in (s // 8, s // 8 + 1)
        ]
        pairs = builder.bitcast(shuffle(builder, data, data, order), I16X16.ir)
        return builder.mul(pairs, constant(I16X16, [1 << (16 - width - s % 8) for s in starts] * 2))

    if all(2 * bits + 2 * bits * w % 8 <= 16 for w in range(4)):
        both = windows(0, 2 * bits)
        even = _down(builder, both, 16 - 2 * bits)
        return builder.and_(even, _words((1 << bits) - 1)), _down(builder, both, 16 - bits)
    even, odd = windows(0, bits), windows(1, bits)
    return _down(builder, even, 16 - bits), _down(builder, odd, 16 - bits)


def _half(builder: Any, bits: int, looked_up: bool, codes: Any, entries: Any, half: int) -> Any:
    """Even and odd codes of a half, or what the table says of them, as words."""
    if bits in (2, 4, 8) and not looked_up:
        if bits == 4:
            words = _load(builder, I16X16.ir, codes, 0)
            even = builder.and_(_down(builder, words, 4 * half), _words(15))
            odd = _down(builder, words, 8 + 4 * half)
            return even, (odd if half else builder.and_(odd, _words(15)))
        both = _bytes_of_half(builder, bits, codes, half)
        return builder.and_(both, _words(255)), _down(builder, both, 8)
    if bits in (2, 4):
        both = _bytes_of_half(builder, bits, codes, half)
    else:
        even, odd = _crossing(builder, bits, codes, half)
        if not looked_up:
            return even, odd
        both = builder.or_(even, builder.shl(odd, _words(8)))
    index = builder.bitcast(both, I8X32.ir)
    table = shuffle(builder, entries, entries, list(range(32)))
    both = call(builder, "llvm.x86.avx2.pshuf.b", I8X32.ir, [table, index])
    both = builder.bitcast(both, I16X16.ir)
    return builder.and_(both, _words(255)), _down(builder, both, 8)


_FOUR = types.UniTuple(F32X16, 4)  # type: ignore[no-untyped-call]


def _make_add(bits: int, looked_up: bool) -> Any:
    @operation(_FOUR, _FOUR, I8X64, *[types.intp] * 6)
    def add_units(
        builder: Any, totals: Any, entries: Any, codes: Any, size: Any, even: Any, odd: Any,
        scale: Any, apart: Any,
    ) -> Any:  # fmt: skip
        found: list[list[Any]] = [[] for _ in range(4)]
        # By halves, so that two vectors of activations serve four rows.
        for half in (0, 1):
            sides = [_load(builder, I16X16.ir, at, 32 * half) for at in (even, odd)]
            for row in range(4):
                at, place = (
                    builder.add(address, builder.mul(step, ir.Constant(_I64, row)))
                    for address, step in ((codes, size), (scale, apart))
                )
                factor = builder.load(pointer(builder, place, _F32), align=1)
                words = _half(builder, bits, looked_up, at, entries, half)
                a, b = (
                    call(builder, "llvm.x86.avx2.pmadd.wd", _I32X8.ir, [w, v])
                    for w, v in zip(words, sides, strict=True)
                )
                whole = builder.sitofp(builder.add(a, b), _F32X8.ir)
                product = builder.fmul(whole, splat(builder, _F32X8, factor))
                total = builder.extract_value(totals, row)
                before = shuffle(builder, total, total, [8 * half + i for i in range(8)])
                found[row].append(builder.fadd(before, product))
        for row, (low, high) in enumerate(found):
            whole = shuffle(builder, low, high, list(range(16)))
            totals = builder.insert_value(totals, whole, row)
        return totals

    return add_units


@operation(types.void, I8X64, I8X64, types.intp, types.intp)
def store_words(builder: Any, high: Any, low: Any, even: Any, odd: Any) -> None:
    """Write words ``128 high + low`` of the even bytes, i16 (32,), and of the odd ones."""
    eight, seven = (constant(I16X32, [bits] * 32) for bits in (8, 7))
    high, low = (builder.bitcast(value, I16X32.ir) for value in (high, low))
    for address, up in ((even, True), (odd, False)):
        h, rest = (builder.shl(v, eight) if up else v for v in (high, low))
        h, rest = (builder.ashr(v, eight) for v in (h, rest))
        words = builder.add(builder.shl(h, seven), rest)
        builder.store(words, pointer(builder, address, I16X32.ir), align=1)


#: ``add(totals, entries, codes, size, even, odd, scale, apart)``: four times f32 x 16 plus the f32
#: at ``scale`` times the sums over four codes each, or entries, times activations i16 (32,) at
#: ``even`` and ``odd``. The next row's codes are ``size`` bytes further on, its scale ``apart``.
#: By (bits, whether codes are looked up in the 16 ``entries``).
ADD_UNITS = {
    (bits, looked_up): _make_add(bits, looked_up)
    for bits in range(2, 9)
    for looked_up in ((False, True) if bits <= 4 else (False,))
}
