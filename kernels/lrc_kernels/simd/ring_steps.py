"""Steps of the Viterbi search over a shuffle trellis, whose distances are few and known.

The value of a state is that of an index, which is linear in the bits of the state: over 16
neighbouring states it runs through the same offsets, by exclusive or, wherever they begin. So a
step has as many vectors of 16 distances as there are indices, and 16 of them are one with its
lanes exchanged; a step makes them all, and the states add what they need.

Costs are those of :mod:`lrc_kernels.trellis_fixed`; the lowest k bits, which the next step drops
for the number of a state among the ``2^k`` predecessors of a group, mostly are that from when they
are stored. Where costs saturate the number is lost, which no path of a sane input comes by.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

from lrc_kernels.simd.trellis import distance
from lrc_kernels.simd.values import (
    I16X16,
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
#: Lanes of a vector of distances, and its bytes.
LANES, BYTES = 16, 32


def _words(builder: Any, address: Any, step: int = 0) -> Any:
    place = builder.add(address, ir.Constant(_I64, step))
    return builder.load(pointer(builder, place, I16X16.ir), align=1)


def _store(builder: Any, address: Any, step: int, value: Any) -> None:
    place = builder.add(address, ir.Constant(_I64, step))
    builder.store(value, pointer(builder, place, value.type), align=1)


def _all(value: int) -> ir.Constant:
    return constant(I16X16, [value] * LANES)


def _two(builder: Any, name: str, a: Any, b: Any) -> Any:
    return call(builder, f"llvm.{name}.v16i16", I16X16.ir, [a, b])


def _outlined(name: str, kinds: list[ir.Type], emit: Callable[..., None]) -> Callable[..., None]:
    """``emit(builder, *values)`` as a function of its own, which returns nothing.

    Within another its constants are loaded in every pass of a loop, and it is compiled as often as
    it is called for.
    """

    def define(module: Any) -> Any:
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        builder = ir.IRBuilder(function.append_basic_block())
        emit(builder, *function.args)
        builder.ret_void()
        return function

    def called(builder: Any, *values: Any) -> None:
        builder.call(builder.module.globals.get(name) or define(builder.module), values)

    return called


def _make_distances(bits: int) -> Any:
    def emit(builder: Any, values: Any, table: Any, z: Any, mask: Any) -> None:
        z, mask = splat(builder, I16X16, z), splat(builder, I16X16, mask)
        away = distance(builder, I16X16, _words(builder, values), z, DOUBLINGS[bits])
        away = builder.and_(away, mask)
        for b in range(LANES):
            exchanged = shuffle(builder, away, away, [lane ^ b for lane in range(LANES)])
            _store(builder, table, BYTES * b, exchanged)

    called = _outlined(f"ring_distances_{bits}", [_I64, _I64, _I16, _I16], emit)

    @operation(types.void, types.intp, types.intp, types.int16, types.int16)
    def distances(builder: Any, *given: Any) -> None:
        called(builder, *given)

    return distances


#: ``distances(values, table, z, mask)``: of the 16 values i16 at ``values`` from ``z``, without the
#: bits that ``mask`` lacks, with their lanes exchanged by exclusive or with 0 to 15: 16 vectors at
#: ``table``.
distances_2, distances_3, distances_4 = (_make_distances(bits) for bits in (2, 3, 4))


def _repeated(builder: Any, words: Any, bits: int) -> list[Any]:
    """Every lane 2^bits times over, as 2^bits vectors.

    First the lanes that each half of all of them takes are brought into that half, which costs most
    where vectors are two halves.
    """
    half = LANES // 2
    wanted = [[(LANES * way + j) >> bits for j in range(LANES)] for way in range(1 << bits)]
    found = []
    for first in range(0, 1 << bits, min(1 << bits, half)):
        some = wanted[first : first + half]
        sides = [sorted({lane for w in some for lane in w[half * h :][:half]}) for h in (0, 1)]
        near = shuffle(builder, words, words, [*sides[0], *sides[1]])
        for w in some:
            mask = [half * h + sides[h].index(w[half * h + j]) for h in (0, 1) for j in range(half)]
            found.append(shuffle(builder, near, near, mask))
    return found


def _loop(builder: Any, count: Any, starts: list[Any], steps: list[int], body: Any) -> None:
    """``body(values)`` ``count`` times (once at least), with ``starts`` growing by ``steps``."""
    before, loop = builder.block, builder.append_basic_block("parts")
    done = builder.append_basic_block("parts.done")
    builder.branch(loop)
    builder.position_at_end(loop)
    values = [builder.phi(_I64) for _ in (count, *starts)]
    body(values[1:])
    grown = [-1, *steps]
    for value, start, step in zip(values, [count, *starts], grown, strict=True):
        value.add_incoming(start, before)
        value.add_incoming(builder.add(value, ir.Constant(_I64, step)), loop)
    left = builder.sub(values[0], ir.Constant(_I64, 1))
    builder.cbranch(builder.icmp_signed(">", left, ir.Constant(_I64, 0)), loop, done)
    builder.position_at_end(done)


def _make_step(bits: int, *, plain: bool) -> Any:
    ways = 1 << bits

    def lowest(builder: Any, costs: Any, stride: Any, less: Any) -> Any:
        best, at = None, costs
        for way in range(ways):
            cost = _words(builder, at)
            if plain:
                cost = builder.and_(builder.sub(cost, less), _all(0x10000 - ways))
                cost = builder.or_(cost, _all(way))
            best = cost if best is None else _two(builder, "umin", best, cost)
            at = builder.add(at, stride)
        return best

    def part(builder: Any, stride: Any, less: Any, table: Any, places: list[Any]) -> None:
        costs, offsets, fresh, back, numbers = places
        best = []
        for which in range(2):
            at = builder.add(costs, ir.Constant(_I64, BYTES * which))
            least = lowest(builder, at, stride, less)
            best.append(least)
            at = builder.add(numbers, ir.Constant(_I64, 2 * which))
            own = splat(builder, I16X16, builder.load(pointer(builder, at, _I16), align=1))
            least = builder.or_(builder.and_(least, _all(0x10000 - ways)), own)
            for way, words in enumerate(_repeated(builder, least, bits)):
                i = ways * which + way
                at = builder.add(offsets, ir.Constant(_I64, 2 * i))
                offset = builder.load(pointer(builder, at, _I16), align=1)
                away = _words(builder, builder.add(table, builder.zext(offset, _I64)))
                _store(builder, fresh, BYTES * i, _two(builder, "uadd.sat", words, away))
        low = builder.and_(best[0], _all(0xFF))
        _store(builder, back, 0, builder.or_(low, builder.shl(best[1], _all(8))))

    def emit(builder: Any, parts: Any, costs: Any, table: Any, *given: Any) -> None:
        offsets, fresh, back, numbers, less = given
        stride = builder.shl(parts, ir.Constant(_I64, 6))
        wide = splat(builder, I16X16, less)
        _loop(
            builder, parts, [costs, offsets, fresh, back, numbers],
            [2 * BYTES, 4 * ways, 2 * BYTES * ways, BYTES, 4],
            lambda places: part(builder, stride, wide, table, places),
        )  # fmt: skip

    called = _outlined(f"ring_step_{bits}{'_plain' * plain}", [*7 * [_I64], _I16], emit)

    @operation(types.void, *7 * [types.intp], types.int16)
    def step(builder: Any, *given: Any) -> None:
        called(builder, *given)

    return step


#: ``step(parts, costs, table, places, fresh, back, numbers, less)``: costs of ``32 * 2^bits``
#: states a part, at ``fresh``, whose distances are those at ``table`` plus offsets u16, one for 16
#: of them, at ``places``, from those at ``costs``, which have numbers. In the lowest bits of bytes
#: at ``back`` are the numbers of the best predecessors of groups, those of 16 and the next 16 in
#: turn. The i16 at ``numbers``, one for 16 groups, are what their states get.
ring_step_2, ring_step_3, ring_step_4 = (_make_step(bits, plain=False) for bits in (2, 3, 4))
#: The same from costs without numbers, of which ``less`` is taken off first.
plain_step_2, plain_step_3, plain_step_4 = (_make_step(bits, plain=True) for bits in (2, 3, 4))
