"""Float products with a vector's lanes as columns: for attention, whose lanes are queries.

Like :mod:`lrc_kernels.simd.values`: floats are added in a fixed order, never contracted.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from lrc_kernels.simd.paths import path
from lrc_kernels.simd.values import (
    F32X16,
    I32X16,
    constant,
    operation,
    pointer,
    splat,
)

_I32, _I64, _F32 = ir.IntType(32), ir.IntType(64), ir.FloatType()

#: Columns of a product, and bytes of its rows.
LANES, ROW_BYTES = 32, 128
#: Rows that are computed at a time, and vectors of their columns: what registers hold.
ROWS, ABREAST = (8, 2) if path() == "avx512vnni" else (4, 1)


def _at(builder: Any, address: Any, step: int) -> Any:
    return builder.add(address, ir.Constant(_I64, step))


def _make_product(rows: int) -> Any:
    vectors = range(ABREAST)

    @operation(types.void, types.intp, types.intp, types.intp, types.intp, types.intp, types.intp)
    def product(builder: Any, a: Any, down: Any, across: Any, b: Any, count: Any, out: Any) -> None:
        before, loop = builder.block, builder.append_basic_block("terms")
        done = builder.append_basic_block("terms.done")
        builder.branch(loop)
        builder.position_at_end(loop)
        k = builder.phi(_I64)
        sums = [[builder.phi(F32X16.ir) for _ in vectors] for _ in range(rows)]
        row = builder.add(b, builder.mul(k, ir.Constant(_I64, ROW_BYTES)))
        columns = [
            builder.load(pointer(builder, _at(builder, row, 64 * v), F32X16.ir), align=1)
            for v in vectors
        ]
        place = builder.add(a, builder.mul(k, across))
        for i in range(rows):
            value = builder.load(pointer(builder, place, _F32), align=1)
            wide = splat(builder, F32X16, value)
            for v in vectors:
                after = builder.fadd(sums[i][v], builder.fmul(wide, columns[v]))
                sums[i][v].add_incoming(ir.Constant(F32X16.ir, None), before)
                sums[i][v].add_incoming(after, loop)
                sums[i][v] = after
            place = builder.add(place, down)
        following = builder.add(k, ir.Constant(_I64, 1))
        k.add_incoming(ir.Constant(_I64, 0), before)
        k.add_incoming(following, loop)
        builder.cbranch(builder.icmp_signed("<", following, count), loop, done)
        builder.position_at_end(done)
        for i in range(rows):
            for v in vectors:
                to = pointer(builder, _at(builder, out, ROW_BYTES * i + 64 * v), F32X16.ir)
                builder.store(sums[i][v], to, align=1)

    return product


#: ``product(a, down, across, b, count, out)``: ``ROWS`` rows (or one) of ``ABREAST`` vectors of
#: sums over k < count (at least 1) of A[i, k] B[k], with A's strides in bytes.
product_rows, product_row = _make_product(ROWS), _make_product(1)


def _make_keep(relation: str) -> Any:
    @operation(F32X16, F32X16, types.intp, types.float32)
    def keep(builder: Any, value: Any, lane: Any, other: Any) -> Any:
        lanes = constant(I32X16, list(range(16)))
        number = splat(builder, I32X16, builder.trunc(lane, _I32))
        kept = builder.icmp_signed(relation, lanes, number)
        return builder.select(kept, value, splat(builder, F32X16, other))

    return keep


#: ``keep(value, lane, other)``: the lanes from number ``lane`` on, or those before it, of f32 x 16;
#: ``other`` in the rest.
keep_from, keep_before = _make_keep(">="), _make_keep("<")
