"""Steps of the Viterbi search over a bitshift trellis, 32 groups of states at a time.

Costs are unsigned 16-bit integers that saturate; distances are below 2^14 + 2^15. Of the
``2^k`` predecessors of a group the number of the best is kept in the lowest k bits of the cost
while they are compared, so a search costs one minimum each.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from lrc_kernels.simd.values import (
    I16X32,
    Vector,
    call,
    constant,
    operation,
    pointer,
    shuffle,
    splat,
)
from lrc_kernels.trellis_fixed import DOUBLINGS

_I16, _I64 = ir.IntType(16), ir.IntType(64)
_I8X32 = Vector("i8", 32)


def _all(value: int) -> ir.Constant:
    return constant(I16X32, [value] * 32)


def _at(builder: Any, address: Any, step: int) -> Any:
    return builder.add(address, ir.Constant(_I64, step))


def _words(builder: Any, address: Any) -> Any:
    return builder.load(pointer(builder, address, I16X32.ir), align=1)


def _two(builder: Any, name: str, a: Any, b: Any) -> Any:
    return call(builder, f"llvm.{name}.v{a.type.count}i16", a.type, [a, b])


def distance(builder: Any, vector: Vector, values: Any, z: Any, doublings: int) -> Any:
    """Upper half of the squared difference after doublings; linear where these saturate."""
    first = difference = _two(builder, "ssub.sat", values, z)
    for _ in range(doublings):
        difference = _two(builder, "sadd.sat", difference, difference)
    wide = Vector("i32", vector.lanes)
    long = builder.sext(difference, wide.ir)
    square = builder.lshr(builder.mul(long, long), constant(wide, [16] * vector.lanes))
    upper = builder.trunc(square, vector.ir)
    if not doublings:
        return upper
    away = _two(builder, "smax", first, builder.sub(constant(vector, [0] * vector.lanes), first))
    beyond = constant(vector, [32767 >> doublings] * vector.lanes)
    return builder.add(upper, _two(builder, "usub.sat", away, beyond))


def _make_step(bits: int) -> Any:
    ways = 1 << bits

    @operation(types.void, types.intp, types.intp, types.intp, types.intp, types.intp, types.int16)
    def step(
        builder: Any, costs: Any, stride: Any, values: Any, fresh: Any, back: Any, z: Any
    ) -> None:
        best, at = None, costs
        for way in range(ways):
            cost = builder.and_(_words(builder, at), _all(0x10000 - ways))
            cost = builder.or_(cost, _all(way))
            best = cost if best is None else _two(builder, "umin", best, cost)
            at = builder.add(at, stride)
        chosen = builder.trunc(builder.and_(best, _all(ways - 1)), _I8X32.ir)
        builder.store(chosen, pointer(builder, back, _I8X32.ir), align=1)
        best = builder.and_(best, _all(0x10000 - ways))
        z = splat(builder, I16X32, z)
        for part in range(ways):
            spread = shuffle(builder, best, best, [(32 * part + i) >> bits for i in range(32)])
            found = _words(builder, _at(builder, values, 64 * part))
            away = distance(builder, I16X32, found, z, DOUBLINGS[bits])
            total = _two(builder, "uadd.sat", spread, away)
            place = _at(builder, fresh, 64 * part)
            builder.store(total, pointer(builder, place, I16X32.ir), align=1)

    return step


#: ``step(costs, stride, values, fresh, back, z)``: costs of the ``32 * 2^bits`` states at
#: ``fresh``, of values at ``values``, from those of their predecessors, ``2^bits`` runs of 32 at
#: ``costs`` and every ``stride`` bytes on; the best ones' numbers u8 (32,) go to ``back``.
step_2, step_3, step_4 = (_make_step(bits) for bits in (2, 3, 4))


@operation(types.int16, types.intp, types.intp)
def least_word(builder: Any, address: Any, count: Any) -> Any:
    """Smallest of ``count`` (a multiple of 32) unsigned 16-bit numbers."""
    least = _fold(builder, address, count)
    return call(builder, "llvm.vector.reduce.umin.v32i16", _I16, [least])


def _fold(builder: Any, address: Any, count: Any) -> Any:
    """Lane by lane minimum of a run of words."""
    before = builder.block
    loop = builder.append_basic_block("least")
    done = builder.append_basic_block("least.done")
    builder.branch(loop)
    builder.position_at_end(loop)
    i, least = builder.phi(_I64), builder.phi(I16X32.ir)
    place = builder.add(address, builder.shl(i, ir.Constant(_I64, 1)))
    lower = _two(builder, "umin", least, _words(builder, place))
    following = builder.add(i, ir.Constant(_I64, 32))
    i.add_incoming(ir.Constant(_I64, 0), before)
    i.add_incoming(following, loop)
    least.add_incoming(_all(0xFFFF), before)
    least.add_incoming(lower, loop)
    builder.cbranch(builder.icmp_signed("<", following, count), loop, done)
    builder.position_at_end(done)
    return lower


@operation(types.void, types.intp, types.int16)
def lower_words(builder: Any, address: Any, amount: Any) -> None:
    """Subtract from 32 unsigned 16-bit numbers, none of which is smaller."""
    rest = builder.sub(_words(builder, address), splat(builder, I16X32, amount))
    builder.store(rest, pointer(builder, address, I16X32.ir), align=1)
