"""Panels of shuffle-trellis weights as bytes, times many tokens.

ARM multiplies 16 bytes by one instruction, and only eight 16-bit numbers by four. So a panel of 64
rows has, for each four adjacent columns, four bytes a row, and activations ``128 h + l`` are 64
bytes h of a group, then 64 bytes l. Sums of both are kept apart until a group ends. Integers are
those of :mod:`lrc_kernels.simd.weight_panels`, floats are added in the same order.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from lrc_kernels.shuffle_code import GROUP, LANES, PASS, RINGS, SEGMENTS
from lrc_kernels.simd import neon
from lrc_kernels.simd.paths import path
from lrc_kernels.simd.values import (
    F32X16,
    I8X32,
    I8X64,
    I32X16,
    constant,
    operation,
    pointer,
    shuffle,
    splat,
)

_I32, _I64, _F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()

#: Whether panels of rings are bytes.
BYTES = path() == "neon"
#: Tokens whose sums fit the registers.
_ABREAST = 3


def _at(builder: Any, address: Any, step: int) -> Any:
    return builder.add(address, ir.Constant(_I64, step))


def _load(builder: Any, kind: ir.Type, address: Any, step: int = 0) -> Any:
    return builder.load(pointer(builder, _at(builder, address, step), kind), align=1)


def _sums(builder: Any, weights: Any, row_bytes: int, x: list[Any], quads: Any) -> list[list[Any]]:
    """Of each token at ``x`` the sums of its h and of its l, by a loop over fours of columns."""
    zero, start = ir.Constant(I32X16.ir, None), ir.Constant(_I64, 0)
    before, loop = builder.block, builder.append_basic_block("quads")
    done = builder.append_basic_block("quads.done")
    builder.branch(loop)
    builder.position_at_end(loop)
    i = builder.phi(_I64)
    sums = [[builder.phi(I32X16.ir) for _ in range(2)] for _ in x]
    place = builder.add(weights, builder.mul(i, ir.Constant(_I64, row_bytes)))
    rows = _load(builder, I8X64.ir, place)
    after = []
    for at, own in zip(x, sums, strict=True):
        four = builder.add(at, builder.mul(i, ir.Constant(_I64, 4)))
        planes = (splat(builder, I32X16, _load(builder, _I32, four, GROUP * k)) for k in (0, 1))
        pair = [
            neon.dot_signed(builder, total, rows, plane)
            for total, plane in zip(own, planes, strict=True)
        ]
        for total, value in zip(own, pair, strict=True):
            total.add_incoming(zero, before)
            total.add_incoming(value, loop)
        after.append(pair)
    following = builder.add(i, ir.Constant(_I64, 1))
    i.add_incoming(start, before)
    i.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, quads), loop, done)
    builder.position_at_end(done)
    return after


def make_multiply(tokens: int, token_bytes: int, row_bytes: int, total_bytes: int) -> Any:
    """``multiply(totals, weights, x, quads, scales)``, as `weight_panels.multiply_tokens`.

    Tokens lie ``token_bytes`` apart, their sums ``total_bytes``, fours of columns ``row_bytes``,
    scales a group of 64 of ``token_bytes``.
    """
    seven = constant(I32X16, [7] * 16)

    @operation(types.void, types.intp, types.intp, types.intp, types.intp, types.intp)
    def multiply(builder: Any, totals: Any, weights: Any, x: Any, quads: Any, scales: Any) -> None:
        for first in range(0, tokens, _ABREAST):
            some = range(first, min(tokens, first + _ABREAST))
            own = [_at(builder, x, token_bytes * t) for t in some]
            sums = _sums(builder, weights, row_bytes, own, quads)
            for t, (high, low) in zip(some, sums, strict=True):
                whole = builder.add(builder.shl(high, seven), low)
                scale = _load(builder, _F32, scales, 2 * token_bytes // GROUP * t)
                part = builder.sitofp(whole, F32X16.ir)
                part = builder.fmul(part, splat(builder, F32X16, scale))
                before = _load(builder, F32X16.ir, totals, total_bytes * t)
                to = pointer(builder, _at(builder, totals, total_bytes * t), F32X16.ir)
                builder.store(builder.fadd(before, part), to, align=1)

    return multiply


def _lanes_of_half(blocks: int) -> list[int]:
    """Lanes of four rings in the order [four columns][block][column]."""
    columns = SEGMENTS // blocks
    return [
        4 * (blocks * (column % columns) + b) + column // columns
        for first in range(0, 4 * columns, 4)
        for b in range(blocks)
        for column in range(first, first + 4)
    ]


def _make_store_quads(blocks: int) -> Any:
    lanes, columns, size = _lanes_of_half(blocks), SEGMENTS // blocks, RINGS // 2 * blocks

    @operation(types.void, types.intp, types.intp, types.intp)
    def store_quads(builder: Any, levels: Any, out: Any, quad_bytes: Any) -> None:
        for half in range(2):
            for t in range(PASS):
                value = _load(builder, I8X32.ir, levels, LANES * t + LANES // 2 * half)
                for q in range(columns):
                    part = shuffle(builder, value, value, lanes[size * q : size * (q + 1)])
                    number = ir.Constant(_I64, columns * half + q)
                    place = builder.add(out, builder.mul(quad_bytes, number))
                    place = _at(builder, place, size * t)
                    builder.store(part, pointer(builder, place, part.type), align=1)

    return store_quads


#: By blocks of 32 rows in a tile: ``store_quads(levels, out, quad_bytes)`` writes the fours of
#: columns of a pass, ``quad_bytes`` apart, i8 (8 weights, blocks, 4) each.
store_quads = {blocks: _make_store_quads(blocks) for blocks in (1, 2, 4, 8)}


def pair_of_bytes(builder: Any, address: Any) -> Any:
    """IR of two activations ``128 h + l`` in every lane, of h at ``address``."""
    wide = ir.VectorType(ir.IntType(16), 8)
    planes = []
    for k in (0, 1):
        two = _load(builder, ir.IntType(16), address, GROUP * k)
        four = ir.Constant(ir.VectorType(ir.IntType(16), 4), ir.Undefined)
        four = builder.insert_element(four, two, ir.Constant(_I32, 0))
        four = shuffle(builder, four, four, [0] * 4)
        eight = builder.bitcast(four, ir.VectorType(ir.IntType(8), 8))
        planes.append(builder.sext(eight, wide))
    high = builder.shl(planes[0], ir.Constant(wide, [7] * 8))
    words = builder.add(high, planes[1])
    return builder.bitcast(shuffle(builder, words, words, [i % 8 for i in range(32)]), I32X16.ir)
