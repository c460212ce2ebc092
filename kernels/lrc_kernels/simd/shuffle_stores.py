"""Levels of a pass of eight shuffle-trellis rings, put where rows or panels of weights want them.

A pass is i8 (8 weights, 64 lanes), lane ``32 h + 4 s + c`` of segment s of ring 4 h + c, as in
:mod:`lrc_kernels.shuffle_code`. Plain vector operations: the same on every path.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from lrc_kernels.shuffle_code import LANES, PASS, RINGS, SEGMENTS
from lrc_kernels.simd.values import I8X16, I16X16, Vector, operation, pointer, shuffle, splat

_I64 = ir.IntType(64)
F32X8 = Vector("f32", 8)
#: Rings of a half of the lanes, and lanes of a vector here.
_HALF, _WIDTH = RINGS // 2, I8X16.lanes


def _at(builder: Any, address: Any, step: int) -> Any:
    return builder.add(address, ir.Constant(_I64, step))


@operation(types.void, types.intp, F32X8, types.intp)
def store_row(builder: Any, levels: Any, scale: Any, out: Any) -> None:
    """Eight columns of a row of a tile of one column, f32, from their two fours of levels."""
    word = ir.IntType(32)
    pair = ir.Constant(ir.VectorType(word, 2), ir.Undefined)
    for i, skip in enumerate((0, LANES // 2)):
        four = builder.load(pointer(builder, _at(builder, levels, skip), word), align=1)
        pair = builder.insert_element(pair, four, ir.Constant(word, i))
    values = builder.sitofp(builder.bitcast(pair, Vector("i8", 8).ir), F32X8.ir)
    builder.store(builder.fmul(values, scale), pointer(builder, out, F32X8.ir), align=1)


@operation(F32X8, types.float32)
def splat_f32x8(builder: Any, value: Any) -> Any:
    """The same value in every lane."""
    return splat(builder, F32X8, value)


def _words_of_half(blocks: int) -> list[tuple[int, list[int]]]:
    """Of each pair of columns in a half of the lanes, its number and its lanes (blocks, 2)."""
    columns = SEGMENTS // blocks
    if columns == 1:
        ring_pairs = range(_HALF // 2)
        return [(g, [4 * s + 2 * g + i for s in range(blocks) for i in (0, 1)]) for g in ring_pairs]
    return [
        (columns // 2 * c + g, [4 * (blocks * (2 * g + i) + b) + c
                                for b in range(blocks) for i in (0, 1)])
        for g in range(columns // 2) for c in range(_HALF)
    ]  # fmt: skip


def _transposed(builder: Any, vectors: list[Any]) -> list[Any]:
    """Word k of all vectors, which have as many words as there are vectors, as vector k."""
    count = len(vectors)
    size = _WIDTH // count
    step = 1
    while step < count:
        pairs = [(vectors[i], vectors[i + count // 2]) for i in range(count // 2)]
        vectors = [
            shuffle(builder, a, b, [size * k + _WIDTH * other + i
                                    for k in range(first, first + count // 2)
                                    for other in (0, 1) for i in range(size)])
            for a, b in pairs for first in (0, count // 2)
        ]  # fmt: skip
        step *= 2
    return vectors


def _make_store_pairs(blocks: int) -> Any:
    """As many weights as fill a vector with the rows of one pair of columns are taken together."""
    words, together = _words_of_half(blocks), _WIDTH // (2 * blocks)

    @operation(types.void, types.intp, types.intp, types.intp)
    def store_pairs(builder: Any, levels: Any, out: Any, pair_bytes: Any) -> None:
        def load(skip: int) -> Any:
            return builder.load(pointer(builder, _at(builder, levels, skip), I8X16.ir), align=1)

        for half in range(2):
            for first in range(0, PASS, together):
                weights = range(first, first + together)
                places = [LANES * t + LANES // 2 * half for t in weights]
                loaded = [(load(place), load(place + _WIDTH)) for place in places]
                for start in range(0, len(words), together):
                    some = words[start : start + together]
                    lanes = [lane for _, own in some for lane in own]
                    gathered = [shuffle(builder, low, high, lanes) for low, high in loaded]
                    rows = _transposed(builder, gathered)
                    for (pair, _), value in zip(some, rows, strict=True):
                        number = ir.Constant(_I64, pair + len(words) * half)
                        place = _at(builder, out, 4 * blocks * first)
                        place = builder.add(place, builder.mul(pair_bytes, number))
                        wide = builder.sext(value, I16X16.ir)
                        builder.store(wide, pointer(builder, place, I16X16.ir), align=1)

    return store_pairs


#: By blocks of 32 rows in a tile: ``store_pairs(levels, out, pair_bytes)`` writes the pairs of
#: columns of a pass, ``pair_bytes`` apart, i16 (8 weights, blocks, 2) each.
store_pairs = {blocks: _make_store_pairs(blocks) for blocks in (1, 2, 4, 8)}
