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
    low, high = (_load(builder, _I8X16.ir, codes, 4 * bits * half + 2 * bits * k) for k in (0, 1))
    data = shuffle(builder, low, high, list(range(32)))

    def windows(first: int, width: int) -> Any:
        """Words with the bits of each second code's place at their top."""
        starts = [bits * (2 * w + first) for w in range(8)]
        order = [i for s in starts for i in (s // 8, min(s // 8 + 1, 15))] * 2
        order = [i + 16 * (n // 16) for n, i in enumerate(order)]
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


def _make_add(bits: int, looked_up: bool) -> Any:
    @operation(F32X16, F32X16, types.intp, I8X64, types.intp, types.intp, types.intp)
    def add_unit(
        builder: Any, total: Any, codes: Any, entries: Any, even: Any, odd: Any, scale: Any
    ) -> Any:
        wide = splat(builder, _F32X8, builder.load(pointer(builder, scale, _F32), align=1))
        found = []
        for half in (0, 1):
            parts = zip(
                _half(builder, bits, looked_up, codes, entries, half), (even, odd), strict=True
            )
            a, b = (
                call(
                    builder, "llvm.x86.avx2.pmadd.wd", _I32X8.ir,
                    [words, _load(builder, I16X16.ir, x, 32 * half)],
                )
                for words, x in parts
            )  # fmt: skip
            product = builder.fmul(builder.sitofp(builder.add(a, b), _F32X8.ir), wide)
            before = shuffle(builder, total, total, [8 * half + i for i in range(8)])
            found.append(builder.fadd(before, product))
        return shuffle(builder, found[0], found[1], list(range(16)))

    return add_unit


#: ``add(total, codes, entries, even, odd, scale)``: total f32 x 16 plus the f32 at ``scale`` times
#: the sums over four codes each, or entries, times activations i16 (32,) at ``even`` and ``odd``.
#: By (bits, whether codes are looked up in the 16 ``entries``).
ADD_UNIT = {
    (bits, looked_up): _make_add(bits, looked_up)
    for bits in range(2, 9)
    for looked_up in ((False, True) if bits <= 4 else (False,))
}


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
