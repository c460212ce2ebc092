"""64 packed codes in a register: the fields of 2 to 8 bits of ``8 * bits`` bytes.

Fields of 2 and 4 bits come out strided (`stride_4`, `stride_2` of
:mod:`lrc_kernels.simd.codes`), all others in order. Every path gives the same bytes.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from lrc_kernels.simd import neon
from lrc_kernels.simd.paths import path, picks_bits
from lrc_kernels.simd.values import (
    I8X64,
    I16X32,
    Vector,
    call,
    constant,
    first_lanes,
    operation,
    pointer,
    shuffle,
)

_I32 = ir.IntType(32)


def _joined(builder: Any, value: Any) -> Any:
    """As many copies of a value as fill 64 bytes."""
    size = value.type.count
    return shuffle(builder, value, value, [i % size for i in range(64)])


def _strided(builder: Any, value: Any, bits: int) -> Any:
    """Fields of 2 or 4 bits: field number k of all bytes, for each k."""
    size = value.type.count
    if path() == "avx512vnni":
        # Whole words move, and what crosses bytes is masked.
        shifts = [bits * (2 * lane // size) for lane in range(32)]
        words = builder.bitcast(_joined(builder, value), I16X32.ir)
        moved = builder.bitcast(builder.lshr(words, constant(I16X32, shifts)), I8X64.ir)
        return builder.and_(moved, constant(I8X64, [(1 << bits) - 1] * 64))
    stored = Vector("i8", size)
    mask = constant(stored, [(1 << bits) - 1] * size)
    parts = [
        builder.and_(builder.lshr(value, constant(stored, [s] * size)), mask)
        for s in range(0, 8, bits)
    ]
    while len(parts) > 1:
        lanes = 2 * parts[0].type.count
        parts = [
            shuffle(builder, a, b, list(range(lanes)))
            for a, b in zip(parts[::2], parts[1::2], strict=True)
        ]
    return parts[0]


def _in_order(builder: Any, value: Any, bits: int) -> Any:
    """Fields of 3, 5, 6 or 7 bits: eight of them fill so many bytes."""
    mask = (1 << bits) - 1
    if picks_bits():
        order = [bits * (i // 8) + min(i % 8, bits - 1) for i in range(64)]
        eights = shuffle(builder, value, value, order)
        starts = constant(I8X64, [bits * (i % 8) for i in range(64)])
        name = "llvm.x86.avx512.pmultishift.qb.512"
        found = call(builder, name, I8X64.ir, [starts, eights])
        return builder.and_(found, constant(I8X64, [mask] * 64))
    if path() == "neon":
        return _by_bytes(builder, value, bits)
    wide, size = Vector("i16", 64), 8 * bits
    starts = [i * bits for i in range(64)]
    low = shuffle(builder, value, value, [s // 8 for s in starts])
    high = shuffle(builder, value, value, [min(s // 8 + 1, size - 1) for s in starts])
    pair = builder.or_(
        builder.zext(low, wide.ir),
        builder.shl(builder.zext(high, wide.ir), constant(wide, [8] * 64)),
    )
    moved = builder.lshr(pair, constant(wide, [s % 8 for s in starts]))
    return builder.trunc(builder.and_(moved, constant(wide, [mask] * 64)), I8X64.ir)


def _by_bytes(builder: Any, value: Any, bits: int) -> Any:
    """Fields by shifts of bytes, each by its own number of bits, which other paths lack."""
    size, part = value.type.count, Vector("i8", 16)
    starts = [bits * i for i in range(16)]
    found = []
    for first in range(0, 8 * bits, 2 * bits):
        # 16 fields begin as the first ones do, and lie in 16 bytes: constants are the same.
        own = shuffle(builder, value, value, [min(first + i, size - 1) for i in range(16)])
        low, high = (
            neon.look_up_16(builder, own, constant(part, [s // 8 + k for s in starts]))
            for k in (0, 1)
        )
        low = builder.lshr(low, constant(part, [s % 8 for s in starts]))
        # Where a field ends in its first byte, what this adds is masked.
        high = builder.shl(high, constant(part, [min(8 - s % 8, 7) for s in starts]))
        both = builder.or_(low, high)
        found.append(builder.and_(both, constant(part, [(1 << bits) - 1] * 16)))
    return neon.joined(builder, found)


def _fields(builder: Any, value: Any, bits: int) -> Any:
    if bits == 8:
        return value
    return (_strided if bits in (2, 4) else _in_order)(builder, value, bits)


def _make_unit(bits: int, read: int) -> Any:
    stored = Vector("i8", read)

    @operation(I8X64, types.intp)
    def unit(builder: Any, address: Any) -> Any:
        value = builder.load(pointer(builder, address, stored.ir), align=1)
        return _fields(builder, value, bits)

    return unit


def _make_part(bits: int) -> Any:
    """64 codes of which the first ``count`` bytes exist, and are read; the others are zero."""
    stored = Vector("i8", 8 * bits)
    name = f"llvm.masked.load.v{stored.lanes}i8.p0"

    @operation(I8X64, types.intp, types.intp)
    def part_of_unit(builder: Any, address: Any, count: Any) -> Any:
        place = pointer(builder, address, stored.ir)
        mask = first_lanes(builder, count, stored.lanes)
        parts = [place, ir.Constant(_I32, 1), mask, ir.Constant(stored.ir, None)]
        return _fields(builder, call(builder, name, stored.ir, parts), bits)

    return part_of_unit


#: By bits: ``unit(address)``, and ``part(address, bytes)`` where the row ends before.
UNITS = {bits: (_make_unit(bits, 8 * bits), _make_part(bits)) for bits in range(2, 9)}
#: By bits: ``unit(address)`` in one load of 16, 32 or else 64 bytes, some in vain. (A masked load
#: would not touch those, and takes a microsecond at each new page.)
WIDE = {bits: _make_unit(bits, {2: 16, 4: 32}.get(bits, 64)) for bits in range(2, 9)}
