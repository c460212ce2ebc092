"""Instructions of 64-bit ARM: lookups and dot products of bytes, on vectors of any length.

A register holds 16 bytes; longer vectors are taken apart and joined again, which costs nothing.
``sdot`` multiplies signed bytes, ``udot`` unsigned ones; newer processors have ``usdot``, too.
Used on the path ``"neon"`` alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir

from lrc_kernels.simd.paths import mixes_signs
from lrc_kernels.simd.values import Vector, call, constant, shuffle

_I8X16, _I32X4 = Vector("i8", 16), Vector("i32", 4)


def registers(builder: Any, value: Any) -> list[Any]:
    """The parts of 128 bits of a vector."""
    size = 128 // value.type.element.width
    return [
        shuffle(builder, value, value, list(range(first, first + size)))
        for first in range(0, value.type.count, size)
    ]


def joined(builder: Any, parts: list[Any]) -> Any:
    """Vectors one behind the other, a power of two of them."""
    while len(parts) > 1:
        lanes = list(range(2 * parts[0].type.count))
        parts = [
            shuffle(builder, low, high, lanes)
            for low, high in zip(parts[::2], parts[1::2], strict=True)
        ]
    return parts[0]


def _each(builder: Any, name: str, result: Vector, *values: Any) -> Any:
    """Call an intrinsic on each register of the values."""
    parts = zip(*(registers(builder, value) for value in values), strict=True)
    return joined(builder, [call(builder, name, result.ir, list(part)) for part in parts])


def _bytes(builder: Any, value: Any) -> Any:
    lanes = value.type.count * value.type.element.width // 8
    return builder.bitcast(value, Vector("i8", lanes).ir)


def _dot(builder: Any, name: str, total: Any, a: Any, b: Any) -> Any:
    a, b = _bytes(builder, a), _bytes(builder, b)
    return _each(builder, f"llvm.aarch64.neon.{name}.v4i32.v16i8", _I32X4, total, a, b)


def dot_signed(builder: Any, total: Any, a: Any, b: Any) -> Any:
    """``total`` plus the sums of four adjacent products of signed bytes."""
    return _dot(builder, "sdot", total, a, b)


def dot_unsigned(builder: Any, total: Any, a: Any, b: Any) -> Any:
    """``total`` plus the sums of four adjacent products of unsigned bytes."""
    return _dot(builder, "udot", total, a, b)


def dot_mixed(builder: Any, total: Any, u: Any, x: Any) -> Any:
    """``total`` plus the sums of four adjacent products of unsigned ``u`` and signed ``x``.

    Without ``usdot``, ``u`` less 128 is a signed byte; 128 times x are two products with 64.
    """
    if mixes_signs():
        return _dot(builder, "usdot", total, u, x)
    # Apart from ``total``, so that products with the same x find it only once.
    rest = ir.Constant(total.type, None)
    for _ in range(2):
        rest = dot_signed(builder, rest, ir.Constant(u.type, [64] * u.type.count), x)
    return dot_less_128(builder, builder.add(total, rest), u, x)


def dot_less_128(builder: Any, total: Any, u: Any, x: Any) -> Any:
    """The same with 128 taken from every ``u``."""
    u = _bytes(builder, u)
    moved = builder.xor(u, ir.Constant(u.type, [128] * u.type.count))
    return dot_signed(builder, total, moved, x)


def add_pairs(builder: Any, total: Any, a: Any, b: Any) -> Any:
    """``total`` plus the sums of two adjacent products of signed 16-bit numbers."""
    words = Vector("i16", 2 * total.type.count)
    halves = list(range(4)), list(range(4, 8))
    parts = []
    both = (registers(builder, builder.bitcast(v, words.ir)) for v in (a, b))
    for pair in zip(*both, strict=True):
        products = []
        for half in halves:
            wide = (builder.sext(shuffle(builder, v, v, half), _I32X4.ir) for v in pair)
            products.append(builder.mul(*wide))
        parts.append(call(builder, "llvm.aarch64.neon.addp.v4i32", _I32X4.ir, products))
    return builder.add(total, joined(builder, parts))


def look_up(builder: Any, table: Sequence[int], index: Any) -> Any:
    """``table[index]`` a byte: 16, 32 or 64 constants, and zero where the index is larger."""
    entries = [
        constant(_I8X16, [int(v) & 255 for v in table[first : first + 16]])
        for first in range(0, len(table), 16)
    ]
    name = f"llvm.aarch64.neon.tbl{len(entries)}.v16i8"
    found = [call(builder, name, _I8X16.ir, [*entries, part]) for part in registers(builder, index)]
    return joined(builder, found)


def look_up_16(builder: Any, table: Any, index: Any) -> Any:
    """The same with the first 16 bytes of a vector as the table."""
    entries = shuffle(builder, table, table, list(range(16)))
    found = [
        call(builder, "llvm.aarch64.neon.tbl1.v16i8", _I8X16.ir, [entries, part])
        for part in registers(builder, index)
    ]
    return joined(builder, found)


def pause(builder: Any) -> None:
    """Tell the core that this is a waiting loop: a ``yield`` does nothing on most, ``isb`` does."""
    whole = ir.Constant(ir.IntType(32), 15)
    call(builder, "llvm.aarch64.isb", ir.VoidType(), [whole])
