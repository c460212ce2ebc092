"""Values of shuffle-trellis rings on ARM, from indices, and their products with bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from lrc_kernels.shuffle_code import ShuffleCode
from lrc_kernels.simd import neon


def _all(value: int, like: Any) -> ir.Constant:
    return ir.Constant(like.type, [value] * like.type.count)


def signed_values(builder: Any, code: ShuffleCode, index: Any) -> Any:
    """Values i8 of indices; of more than 64 values the index has the sign in its highest bit."""
    if code.sign < 64:
        return neon.look_up(builder, code.levels().tolist(), index)
    size = neon.look_up(builder, code.magnitudes, builder.and_(index, _all(127, index)))
    negative = builder.ashr(index, _all(7, index))
    return builder.sub(builder.xor(size, negative), negative)


def _dot(builder: Any, total: Any, value: Any, x: Any, weight: int) -> Any:
    """``total`` plus ``weight`` times the sums over four bytes of values times x."""
    if weight == 1:
        return neon.dot_signed(builder, total, value, x)
    apart = neon.dot_signed(builder, _all(0, total), value, x)
    return builder.add(total, builder.shl(apart, _all(weight.bit_length() - 1, total)))


def add_products(
    builder: Any, code: ShuffleCode, sums: list[Any], data: list[Any], planes: Any,
    find: Callable[[Any, ShuffleCode, list[Any]], list[Any]],
) -> list[Any]:  # fmt: skip
    """Sums after one pass of bytes whose indices are what ``find`` says.

    One register of each vector after the other: what one needs nearly fits in all of them.
    """
    parts = [neon.registers(builder, value) for value in sums]
    own = [neon.registers(builder, value) for value in data]
    with_x = [(neon.registers(builder, x), weight) for x, weight in planes]
    for r in range(len(own[0])):
        for t, index in enumerate(find(builder, code, [value[r] for value in own])):
            value = signed_values(builder, code, index)
            for x, weight in with_x:
                parts[t][r] = _dot(builder, parts[t][r], value, x[r], weight)
    return [neon.joined(builder, part) for part in parts]
