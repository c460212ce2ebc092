"""Products of shuffle-trellis rings with bytes, eight weights of every segment at a time.

A vector holds byte q of all segments of eight rings, as in :mod:`lrc_kernels.shuffle_code`; with
256 bits a half of them, four rings. The index of a weight is looked up nibble by nibble (AVX2,
``vpshufb``), or made from whole bytes by products over GF(2) (``gf2p8affineqb``). Then AVX2 finds a
magnitude in one to four tables of 16 and gives its sign to the activation; ``vpermb`` finds the
value plus 64, and what that adds is a sum of its own; ARM's ``tbl`` finds the value itself. Every
path gives the same integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types

from lrc_kernels.shuffle_code import CODES, LANES, PASS, RINGS, SEGMENT, SEGMENTS, ShuffleCode
from lrc_kernels.simd import neon, shuffle_neon
from lrc_kernels.simd.paths import path, picks_bits
from lrc_kernels.simd.values import (
    I8X32,
    I8X64,
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
I32X8, F32X8, _I16X16 = Vector("i32", 8), Vector("f32", 8), Vector("i16", 16)
#: Whether ARM's lookups are used.
NEON = path() == "neon"
#: Whether 512-bit vectors are used, which needs ``vpermb`` and ``gf2p8affineqb``.
WIDE = picks_bits() and bool(get_host_cpu_features().get("gfni", False))
#: Bytes of a vector of codes, vectors of eight rings side by side, and what a sum is.
BYTES = I8X64 if WIDE else I8X32
PARTS = 1 if WIDE else 2
_SUM = I32X16 if WIDE else I32X8
#: What is added to a value so that it is unsigned, where one table holds them.
_BIAS = 64
_SUMS = types.UniTuple(_SUM, PASS + WIDE)  # type: ignore[no-untyped-call]


def _all(value: int, vector: Vector = BYTES) -> ir.Constant:
    return constant(vector, [value] * vector.lanes)


def _load(builder: Any, address: Any, skip: int) -> Any:
    place = builder.add(address, ir.Constant(_I64, skip))
    return builder.load(pointer(builder, place, BYTES.ir), align=1)


def _shuffle_bytes(builder: Any, table: Sequence[int], index: Any) -> Any:
    """``table[index]`` a byte, by its lowest four bits where the highest is not set."""
    if NEON:
        return neon.look_up(builder, table, index)
    entries = constant(BYTES, [int(v) for v in table] * (BYTES.lanes // 16))
    return call(builder, "llvm.x86.avx2.pshuf.b", BYTES.ir, [entries, index])


def _bytes_of_pass(builder: Any, code: ShuffleCode, at: Any, after: Any, last: Any) -> list[Any]:
    """Vectors of the bytes that the weights of a pass need.

    Those ``after`` it are of the next segment where the pass is the ``last`` one.
    """
    k = code.bits
    needed = -(-(k * (PASS - 1) + code.state_bits) // 8)
    found = [_load(builder, at, 64 * q) for q in range(k)]
    lanes = range(BYTES.lanes)
    following = [lane // 32 * 32 + (lane + RINGS // 2) % 32 for lane in lanes]
    for q in range(needed - k):
        value = _load(builder, after, 64 * q)
        shifted = shuffle(builder, value, value, following)
        found.append(builder.select(last, shifted, value))
    return found


def _affine_indices(builder: Any, code: ShuffleCode, data: list[Any]) -> list[Any]:
    """The index of every weight, by one product over GF(2) a byte."""
    found = []
    for t in range(PASS):
        total = None
        columns = code.columns[t % code.period]
        for byte in range(len(data)):
            bits = [8 * byte + i - code.bits * t for i in range(8)]
            parts = [columns[b] if 0 <= b < code.state_bits else 0 for b in bits]
            if not any(parts):
                continue
            # Byte 7 - r of the matrix says which bits of the input make bit r of the output.
            rows = [sum((parts[i] >> r & 1) << i for i in range(8)) for r in range(8)]
            word = sum(row << 8 * (7 - r) for r, row in enumerate(rows))
            matrix = constant(BYTES, [word >> 8 * (i % 8) & 255 for i in range(BYTES.lanes)])
            zero = ir.Constant(ir.IntType(8), 0)
            name = f"llvm.x86.vgf2p8affineqb.{8 * BYTES.lanes}"
            part = call(builder, name, BYTES.ir, [data[byte], matrix, zero])
            total = part if total is None else builder.xor(total, part)
        found.append(total)
    return found


def _placed(code: ShuffleCode, index: int) -> int:
    """Where AVX2 wants the bits of an index: in a byte whose sign and comparisons are shifts.

    With 16 magnitudes the sign is bit 7; with 32 the fifth bit is, and the sign bit 6; with 64 the
    sixth and the fifth bit are bits 7 and 6, and the sign bit 5. ARM looks up to 64 values up as
    they are; of more the sign is bit 7.
    """
    sign = 1 if index & code.sign else 0
    if NEON:
        return index if code.sign < 64 else (index & (code.sign - 1)) | sign << 7
    extra = len(code.magnitudes).bit_length() - 5
    high = (index & (code.sign - 1)) >> 4
    return (index & 15) | high << (8 - extra) | sign << (7 - extra)


def _nibble_indices(builder: Any, code: ShuffleCode, data: list[Any]) -> list[Any]:
    """Indices in the form of `_placed`, and with a bit below the sign that is always set."""
    low, four = (ir.Constant(data[0].type, [v] * data[0].type.count) for v in (15, 4))
    nibbles = []
    for value in data:
        nibbles += [builder.and_(value, low), builder.and_(builder.lshr(value, four), low)]
    always = 0 if NEON else 1 << (len(str(bin(_placed(code, code.sign)))) - 4)
    tables, found = code.nibble_tables(), []
    for t in range(PASS):
        total, first = None, code.bits * t // 4
        of_phase = tables[t % code.period]
        for i, table in enumerate(of_phase):
            if not table.any():
                continue
            placed = [_placed(code, int(v)) | (0 if total else always) for v in table]
            part = _shuffle_bytes(builder, placed, nibbles[first + i])
            total = part if total is None else builder.xor(total, part)
        found.append(total)
    return found


def _blend(builder: Any, by: Any, low: Any, high: Any) -> Any:
    """``high`` where the highest bit of ``by`` is set, else ``low``."""
    return call(builder, "llvm.x86.avx2.pblendvb", BYTES.ir, [low, high, by])


def _magnitude_and_sign(builder: Any, code: ShuffleCode, index: Any) -> tuple[Any, Any]:
    """Magnitudes u8, and bytes whose sign is the value's, none of which is zero."""
    lowest = builder.and_(index, _all(15))
    tables = np.array(code.magnitudes).reshape(-1, 16).tolist()
    found = [_shuffle_bytes(builder, table, lowest) for table in tables]
    shifted = [index]
    while len(found) > 1 << (len(shifted) - 1):
        shifted.append(builder.add(shifted[-1], shifted[-1]))
    # Bit 7 of the index picks between halves of the tables, bit 6 between quarters.
    for by in reversed(shifted[:-1]):
        pairs = zip(found[::2], found[1::2], strict=True)
        found = [_blend(builder, by, low, high) for low, high in pairs]
    return found[0], shifted[-1]


def _dot_signed(builder: Any, total: Any, size: Any, sign: Any, x: Any, weight: int) -> Any:
    """``total`` plus ``weight`` times the sums over four bytes of signed sizes times x."""
    signed = call(builder, "llvm.x86.avx2.psign.b", BYTES.ir, [x, sign])
    if path() == "avx2":
        pairs = call(builder, "llvm.x86.avx2.pmadd.ub.sw", _I16X16.ir, [size, signed])
        sums = call(
            builder, "llvm.x86.avx2.pmadd.wd", I32X8.ir, [pairs, _all(weight, _I16X16)]
        )  # fmt: skip
        return builder.add(total, sums)
    return _dot(builder, total, size, signed, weight)


def _dot(builder: Any, total: Any, u: Any, x: Any, weight: int) -> Any:
    """The same of unsigned bytes, by ``vpdpbusd``."""
    name = f"llvm.x86.avx512.vpdpbusd.{8 * BYTES.lanes}"
    parts = [builder.bitcast(v, _SUM.ir) for v in (u, x)]
    if weight == 1:
        return call(builder, name, _SUM.ir, [total, *parts])
    apart = call(builder, name, _SUM.ir, [ir.Constant(_SUM.ir, None), *parts])
    shift = constant(_SUM, [weight.bit_length() - 1] * _SUM.lanes)
    return builder.add(total, builder.shl(apart, shift))


def _look_up(builder: Any, code: ShuffleCode, index: Any) -> Any:
    """Values plus `_BIAS`, u8, by ``vpermb``."""
    levels = [int(v) + _BIAS for v in code.levels()]
    if len(levels) <= 64:
        table = constant(BYTES, levels * (64 // len(levels)))
        return call(builder, "llvm.x86.avx512.permvar.qi.512", BYTES.ir, [table, index])
    low, high = (constant(BYTES, levels[i : i + 64]) for i in (0, 64))
    return call(builder, "llvm.x86.avx512.vpermi2var.qi.512", BYTES.ir, [low, index, high])


def _step(builder: Any, code: ShuffleCode, sums: Any, data: list[Any], planes: Any) -> Any:
    """Sums after one pass of a vector; ``planes`` are pairs of activations and their weight."""
    found = [builder.extract_value(sums, j) for j in range(_SUMS.count)]
    if WIDE:
        for t, index in enumerate(_affine_indices(builder, code, data)):
            value = _look_up(builder, code, index)
            for x, weight in planes:
                found[t] = _dot(builder, found[t], value, x, weight)
        for x, weight in planes:
            found[PASS] = _dot(builder, found[PASS], _all(_BIAS), x, weight)
    elif NEON:
        found = shuffle_neon.add_products(builder, code, found, data, planes, _nibble_indices)
    else:
        for t, index in enumerate(_nibble_indices(builder, code, data)):
            size, sign = _magnitude_and_sign(builder, code, index)
            for x, weight in planes:
                found[t] = _dot_signed(builder, found[t], size, sign, x, weight)
    for j, value in enumerate(found):
        sums = builder.insert_value(sums, value, j)
    return sums


def _make_seven(code: ShuffleCode) -> Any:
    @operation(_SUMS, _SUMS, types.intp, types.intp, types.boolean, BYTES)
    def step(builder: Any, sums: Any, at: Any, after: Any, last: Any, x: Any) -> Any:
        data = _bytes_of_pass(builder, code, at, after, last)
        return _step(builder, code, sums, data, [(x, 1)])

    return step


def _make_fifteen(code: ShuffleCode) -> Any:
    @operation(_SUMS, _SUMS, types.intp, types.intp, types.boolean, BYTES, BYTES)
    def step(builder: Any, sums: Any, at: Any, after: Any, last: Any, x: Any, low: Any) -> Any:
        data = _bytes_of_pass(builder, code, at, after, last)
        return _step(builder, code, sums, data, [(x, 128), (low, 1)])

    return step


#: ``step(sums, at, after, last, x)``: sums plus those of the eight weights of each segment at
#: ``at`` times bytes x; bytes behind them are ``after``, of the next segment if this is the
#: ``last`` pass. By (bits, state bits).
step_seven = {key: _make_seven(code) for key, code in CODES.items()}
#: The same times 128 x + low.
step_fifteen = {key: _make_fifteen(code) for key, code in CODES.items()}


def _make_levels(code: ShuffleCode) -> Any:
    @operation(types.void, types.intp, types.intp, types.boolean, types.intp)
    def store_levels(builder: Any, at: Any, after: Any, last: Any, out: Any) -> None:
        data = _bytes_of_pass(builder, code, at, after, last)
        find = _affine_indices if WIDE else _nibble_indices
        for t, index in enumerate(find(builder, code, data)):
            if WIDE:
                value = builder.sub(_look_up(builder, code, index), _all(_BIAS))
            elif NEON:
                value = shuffle_neon.signed_values(builder, code, index)
            else:
                size, sign = _magnitude_and_sign(builder, code, index)
                value = call(builder, "llvm.x86.avx2.psign.b", BYTES.ir, [size, sign])
            place = builder.add(out, ir.Constant(_I64, LANES * t))
            builder.store(value, pointer(builder, place, BYTES.ir), align=1)

    return store_levels


#: ``store_levels(at, after, last, out)``: integers i8 (8 weights, 64) of a pass, or those of the
#: lanes of one of two vectors; see `step_seven`.
store_levels = {key: _make_levels(code) for key, code in CODES.items()}


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

    @operation(BYTES, types.intp)
    def spread(builder: Any, address: Any) -> Any:
        value = builder.load(pointer(builder, address, vector.ir), align=1)
        return shuffle(builder, value, value, lanes)

    return spread


spread_256, spread_128, spread_64, spread_32 = (_make_spread(rows) for rows in (256, 128, 64, 32))


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
