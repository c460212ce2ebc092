"""Panels of trellis weights times many tokens, as 16-bit integers in registers.

A panel is 64 rows: for each pair of adjacent columns four vectors of 16 rows, a lane being the
two weights of its row. Rows lie in lanes as a tile's segments and steps give them, and are put in
order when sums are written. Like :mod:`lrc_kernels.simd.values`: every path gives the same
integers, and floats are added in a fixed order.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from lrc_kernels.simd import neon
from lrc_kernels.simd.dot import halves, sum_bytes
from lrc_kernels.simd.paths import path
from lrc_kernels.simd.tiles import tile_hashes
from lrc_kernels.simd.values import (
    F32X16,
    I16X32,
    I32X16,
    Vector,
    call,
    constant,
    operation,
    pointer,
    shuffle,
    splat,
)
from lrc_kernels.simd.weight_bytes import BYTES, pair_of_bytes
from lrc_kernels.trellis_code import BYTES_MEAN

_I32, _I64, _F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()

#: Vectors of a panel, and bytes of a pair of its columns.
VECTORS, PAIR_BYTES = 4, 256
#: Columns of a block: a panel's weights of one fill half of a first-level cache.
COLUMNS = 256
#: Tokens that are multiplied at a time, and for the last ones.
TOKENS, LAST_TOKENS = 6, 2
#: Vectors of a panel that are multiplied at a time: as many as there are registers for.
ABREAST = VECTORS if path() == "avx512vnni" else 1


def _all(value: int) -> ir.Constant:
    return constant(I32X16, [value] * 16)


def _at(builder: Any, address: Any, step: int) -> Any:
    return builder.add(address, ir.Constant(_I64, step))


def _exchange(builder: Any, vectors: list[Any], low: int) -> list[Any]:
    """Exchange the bits of the vectors' numbers with those of lane numbers from ``low`` on."""
    bit = 1
    while bit < len(vectors):
        step = low * bit
        first = [i if not i & step else 16 + (i ^ step) for i in range(16)]
        second = [i ^ step if not i & step else 16 + i for i in range(16)]
        exchanged = list(vectors)
        for k in (k for k in range(len(vectors)) if not k & bit):
            a, b = vectors[k], vectors[k | bit]
            exchanged[k], exchanged[k | bit] = (shuffle(builder, a, b, m) for m in (first, second))
        vectors = exchanged
        bit *= 2
    return vectors


def _store_pair(builder: Any, out: Any, even: Any, odd: Any) -> None:
    low = builder.and_(even, _all(0xFFFF))
    both = builder.or_(low, builder.shl(odd, _all(16)))
    builder.store(both, pointer(builder, out, I32X16.ir), align=1)


def _make_decode(bits: int, blocks: int, part: int) -> Any:
    """Write a tile's columns of one panel; of tiles one column wide, those of two tiles."""
    together = 16 // blocks
    steps = [s for s in range(16) if s // (VECTORS * together) == part]

    @operation(types.void, types.intp, types.intp, I32X16, I32X16, types.intp)
    def decode(builder: Any, words: Any, second: Any, mask: Any, multiplier: Any, out: Any) -> None:
        def values(address: Any) -> list[Any]:
            hashes = list(tile_hashes(builder, address, bits, mask, multiplier))
            return [sum_bytes(builder, _all(-BYTES_MEAN), hashes[s]) for s in steps]

        found = values(words)
        if blocks == 16:
            other = values(builder.add(words, second))
            for v, (even, odd) in enumerate(zip(found, other, strict=True)):
                _store_pair(builder, _at(builder, out, 64 * v), even, odd)
            return
        for v in range(len(steps) // together):
            rows = found[together * v : together * (v + 1)]
            columns = _exchange(builder, rows, blocks)
            for c in range(0, together, 2):
                place = _at(builder, out, PAIR_BYTES * c // 2 + 64 * v)
                _store_pair(builder, place, columns[c], columns[c + 1])

    return decode


#: By bits, blocks of 16 rows in a tile, and the panel's number in the tile:
#: ``decode(words, second, mask, multiplier, out)`` writes pairs of columns to ``out``, of which
#: tiles of 16 and 32 rows fill one and two vectors. ``second``: bytes to the second tile.
DECODE = {
    (bits, blocks, part): _make_decode(bits, blocks, part)
    for bits in (2, 3, 4)
    for blocks in (1, 2, 4, 8, 16)
    for part in range(max(1, blocks // VECTORS))
}


def _add_pairs(builder: Any, total: Any, u: Any, x: Any) -> Any:
    """``total`` plus the products of both 16-bit numbers of a lane."""
    if path() == "avx512vnni":
        return call(builder, "llvm.x86.avx512.vpdpwssd.512", I32X16.ir, [total, u, x])
    if path() == "avxvnni":
        return halves(builder, "llvm.x86.avx512.vpdpwssd.256", Vector("i32", 8), [total, u, x])
    if path() == "avx2":
        words = [builder.bitcast(v, I16X32.ir) for v in (u, x)]
        products = halves(builder, "llvm.x86.avx2.pmadd.wd", Vector("i32", 8), words)
        return builder.add(total, products)
    if path() == "neon":
        return neon.add_pairs(builder, total, u, x)
    half = _all(16)
    low = builder.mul(*(builder.ashr(builder.shl(v, half), half) for v in (u, x)))
    high = builder.mul(*(builder.ashr(v, half) for v in (u, x)))
    return builder.add(builder.add(total, low), high)


def _make_multiply(tokens: int) -> Any:
    vectors = range(ABREAST)

    @operation(types.void, types.intp, types.intp, types.intp, types.intp, types.intp)
    def multiply(builder: Any, totals: Any, weights: Any, x: Any, pairs: Any, scales: Any) -> None:
        zero = ir.Constant(_I64, 0)
        before, loop = builder.block, builder.append_basic_block("pairs")
        done = builder.append_basic_block("pairs.done")
        builder.branch(loop)
        builder.position_at_end(loop)
        i = builder.phi(_I64)
        sums = [[builder.phi(I32X16.ir) for _ in vectors] for _ in range(tokens)]
        place = builder.add(weights, builder.mul(i, ir.Constant(_I64, PAIR_BYTES)))
        rows = [
            builder.load(pointer(builder, _at(builder, place, 64 * v), I32X16.ir), align=1)
            for v in vectors
        ]
        own = builder.add(x, builder.mul(i, ir.Constant(_I64, 2 if BYTES else 4)))
        for t in range(tokens):
            at = _at(builder, own, 2 * COLUMNS * t)
            if BYTES:
                pair = pair_of_bytes(builder, at)
            else:
                word = builder.load(pointer(builder, at, _I32), align=1)
                pair = splat(builder, I32X16, word)
            for v in vectors:
                after = _add_pairs(builder, sums[t][v], rows[v], pair)
                sums[t][v].add_incoming(_all(0), before)
                sums[t][v].add_incoming(after, loop)
                sums[t][v] = after
        following = builder.add(i, ir.Constant(_I64, 1))
        i.add_incoming(zero, before)
        i.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, pairs), loop, done)
        builder.position_at_end(done)
        for t in range(tokens):
            at = pointer(builder, _at(builder, scales, COLUMNS // 16 * t), _F32)
            scale = splat(builder, F32X16, builder.load(at, align=1))
            for v in vectors:
                to = pointer(builder, _at(builder, totals, 64 * (VECTORS * t + v)), F32X16.ir)
                part = builder.fmul(builder.sitofp(sums[t][v], F32X16.ir), scale)
                builder.store(builder.fadd(builder.load(to, align=1), part), to, align=1)

    return multiply


#: ``multiply(totals, weights, x, pairs, scales)`` adds to f32 (tokens, 4, 16) the first ``ABREAST``
#: vectors of ``pairs`` (at least 1) pairs times the i16 of ``x``, in rows of a block, times their
#: scale, one of four a row.
multiply_tokens, multiply_last = _make_multiply(TOKENS), _make_multiply(LAST_TOKENS)


def _make_store(blocks: int, segment: int) -> Any:
    count = min(VECTORS, blocks)
    together, higher = 16 // blocks, blocks // count
    chunk = Vector("f32", count * together)
    order = [
        (jj * higher + high) * count + v
        for high in range(higher)
        for v in range(count)
        for jj in range(together)
    ]

    @operation(types.void, types.intp, types.intp, types.intp)
    def store(builder: Any, totals: Any, scales: Any, out: Any) -> None:
        vectors = [
            builder.load(pointer(builder, _at(builder, totals, 64 * v), F32X16.ir), align=1)
            for v in range(count)
        ]
        for low, vector in enumerate(_exchange(builder, vectors, 1)):
            for high in range(higher):
                lanes = order[high * chunk.lanes : (high + 1) * chunk.lanes]
                value = shuffle(builder, vector, vector, lanes)
                row = segment * (high * count + low)
                scale = builder.load(
                    pointer(builder, _at(builder, scales, 4 * row), chunk.ir), align=1
                )
                to = pointer(builder, _at(builder, out, 4 * row), chunk.ir)
                builder.store(builder.fmul(value, scale), to, align=1)

    return store


#: By rows of a segment and segments of a column in a tile, whose rows lie in a panel as [row of a
#: segment][segment]: ``store(totals, scales, out)`` writes those of `stored_vectors`, times their
#: scales f32, in order: of each segment so many rows.
STORE = {
    (segment, blocks): _make_store(blocks, segment)
    for segment, most in ((16, 16), (32, 8))
    for blocks in (1, 2, 4, 8, 16)
    if blocks <= most
}


def stored_vectors(blocks: int) -> int:
    """Vectors of a panel that are put in order together."""
    return min(VECTORS, blocks)


@operation(types.void, types.intp, I32X16)
def store_low_words(builder: Any, address: Any, value: Any) -> None:
    """Write the lower 16 bits of each lane: 32 bytes."""
    kind = Vector("i16", 16).ir
    builder.store(builder.trunc(value, kind), pointer(builder, address, kind), align=1)
