"""Products of shuffle-trellis rings with bytes, eight weights of every segment at a time.

Values are those of :mod:`lrc_kernels.simd.shuffle_values`: AVX2 gives the sign of a magnitude to
the activation; where a value is found plus 64, what that adds is a sum of its own. Every path gives
the same integers.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from lrc_kernels.shuffle_code import (
    CODES,
    LANES,
    PASS,
    RINGS,
    SEGMENT,
    SEGMENTS,
    TILE_ROWS,
    ShuffleCode,
)
from lrc_kernels.simd import shuffle_neon
from lrc_kernels.simd.paths import path
from lrc_kernels.simd.shuffle_values import (
    BIAS,
    BYTES,
    NEON,
    PARTS,
    WIDE,
    bytes_of_pass,
    indices_of_bytes,
    indices_of_pass,
    magnitudes_and_signs,
    splat_all,
    values_of,
)
from lrc_kernels.simd.values import (
    I16X16,
    I32X16,
    Vector,
    call,
    constant,
    operation,
    pointer,
    shuffle,
    splat,
)

_I64 = ir.IntType(64)
I32X8, F32X8 = Vector("i32", 8), Vector("f32", 8)
_SUM = I32X16 if WIDE else I32X8
_SUMS = types.UniTuple(_SUM, PASS + WIDE)  # type: ignore[no-untyped-call]
#: Activations of eight rings.
_INPUTS = types.UniTuple(BYTES, PARTS)  # type: ignore[no-untyped-call]


def _dot_signed(
    builder: Any, total: Any, sizes: list[Any], signs: list[Any], xs: list[Any], weight: int
) -> Any:
    """``total`` plus ``weight`` times the sums over four bytes of signed sizes times x."""
    signed = [
        call(builder, "llvm.x86.avx2.psign.b", BYTES.ir, [x, sign])
        for x, sign in zip(xs, signs, strict=True)
    ]
    if path() != "avx2":
        for size, x in zip(sizes, signed, strict=True):
            total = _dot(builder, total, size, x, weight)
        return total
    products = [
        call(builder, "llvm.x86.avx2.pmadd.ub.sw", I16X16.ir, [size, x])
        for size, x in zip(sizes, signed, strict=True)
    ]
    # Those of both parts are at most 4 * 63 * 127.
    both, ones = builder.add(*products), splat_all(weight, I16X16)
    return builder.add(total, call(builder, "llvm.x86.avx2.pmadd.wd", I32X8.ir, [both, ones]))


def _dot(builder: Any, total: Any, u: Any, x: Any, weight: int) -> Any:
    """The same of unsigned bytes, by ``vpdpbusd``."""
    name = f"llvm.x86.avx512.vpdpbusd.{8 * BYTES.lanes}"
    parts = [builder.bitcast(v, _SUM.ir) for v in (u, x)]
    if weight == 1:
        return call(builder, name, _SUM.ir, [total, *parts])
    apart = call(builder, name, _SUM.ir, [ir.Constant(_SUM.ir, None), *parts])
    shift = constant(_SUM, [weight.bit_length() - 1] * _SUM.lanes)
    return builder.add(total, builder.shl(apart, shift))


def _step(builder: Any, code: ShuffleCode, sums: Any, parts: list[Any], planes: Any) -> Any:
    """Sums after one pass of eight rings; ``planes`` are pairs of activations and their weight."""
    found = [builder.extract_value(sums, j) for j in range(_SUMS.count)]
    if NEON:
        for i, data in enumerate(parts):
            own = [(xs[i], weight) for xs, weight in planes]
            found = shuffle_neon.add_products(builder, code, found, data, own, indices_of_bytes)
    else:
        for t, indices in enumerate(indices_of_pass(builder, code, parts)):
            if WIDE:
                (value,) = values_of(builder, code, indices)
                for (x,), weight in planes:
                    found[t] = _dot(builder, found[t], value, x, weight)
            else:
                sizes, signs = magnitudes_and_signs(builder, code, indices)
                for xs, weight in planes:
                    found[t] = _dot_signed(builder, found[t], sizes, signs, xs, weight)
    if WIDE:
        for (x,), weight in planes:
            found[PASS] = _dot(builder, found[PASS], splat_all(BIAS), x, weight)
    for j, value in enumerate(found):
        sums = builder.insert_value(sums, value, j)
    return sums


def _make_step(code: ShuffleCode, *weights: int) -> Any:
    def emit(builder: Any, sums: Any, at: Any, after: Any, last: Any, *xs: Any) -> Any:
        parts = []
        for part in range(PARTS):
            skip = ir.Constant(_I64, LANES // PARTS * part)
            here, following = builder.add(at, skip), builder.add(after, skip)
            parts.append(bytes_of_pass(builder, code, here, following, last))
        unpacked = [[builder.extract_value(x, part) for part in range(PARTS)] for x in xs]
        return _step(builder, code, sums, parts, list(zip(unpacked, weights, strict=True)))

    places = (types.intp, types.intp, types.boolean)
    return operation(_SUMS, _SUMS, *places, *(_INPUTS for _ in weights))(emit)


#: ``step(sums, at, after, last, x)``: sums plus those of the eight weights of each segment of
#: eight rings at ``at`` times bytes x; bytes behind them are ``after``, of the next segment if this
#: is the ``last`` pass. By (bits, state bits).
step_seven = {key: _make_step(code, 1) for key, code in CODES.items()}
#: The same times 128 x + low.
step_fifteen = {key: _make_step(code, 128, 1) for key, code in CODES.items()}


@operation(_SUMS)
def no_sums(builder: Any) -> Any:
    """Zeros."""
    return ir.Constant(ir.ArrayType(_SUM.ir, _SUMS.count), None)


def _make_spread(rows: int) -> Any:
    """Activations of a tile's columns in the lanes of their rings and segments."""
    columns = 256 // rows
    lanes = [
        columns * (RINGS // 2 * (lane // 32) + lane % 4) + SEGMENT * (lane % 32 // 4) // rows
        for lane in range(BYTES.lanes)
    ]
    vector = Vector("i8", columns * RINGS // PARTS)

    @operation(_INPUTS, types.intp)
    def spread(builder: Any, address: Any) -> Any:
        found = ir.Constant(ir.ArrayType(BYTES.ir, PARTS), ir.Undefined)
        for part in range(PARTS):
            place = builder.add(address, ir.Constant(_I64, vector.lanes * part))
            value = builder.load(pointer(builder, place, vector.ir), align=1)
            found = builder.insert_value(found, shuffle(builder, value, value, lanes), part)
        return found

    return spread


#: By columns of a tile.
SPREADS = {256 // rows: _make_spread(rows) for rows in TILE_ROWS}


@operation(types.void, types.intp, _SUMS, types.float32)
def add_scaled(builder: Any, totals: Any, sums: Any, scale: Any) -> None:
    """Add ``scale`` times sums to f32 (8 weights, 8 segments) at ``totals``."""
    found = [builder.extract_value(sums, j) for j in range(_SUMS.count)]
    if WIDE:
        found = [builder.sub(value, found[PASS]) for value in found[:PASS]]
        lower, upper = list(range(8)), list(range(8, 16))
        found = [
            builder.add(shuffle(builder, v, v, lower), shuffle(builder, v, v, upper)) for v in found
        ]
    wide = splat(builder, F32X8, scale)
    for j, value in enumerate(found):
        place = builder.add(totals, ir.Constant(_I64, 4 * SEGMENTS * j))
        place = pointer(builder, place, F32X8.ir)
        product = builder.fmul(builder.sitofp(value, F32X8.ir), wide)
        builder.store(builder.fadd(builder.load(place, align=4), product), place, align=4)
