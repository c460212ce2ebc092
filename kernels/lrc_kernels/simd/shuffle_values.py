"""Values of shuffle-trellis weights in registers, eight of every segment at a time.

A vector holds byte q of all segments of eight rings, as in :mod:`lrc_kernels.shuffle_code`; with
256 bits a half of them, four rings, and both parts go side by side, so that a table is loaded once.
The index of a weight is looked up nibble by nibble (AVX2, ``vpshufb``), or made from whole bytes by
products over GF(2) (``gf2p8affineqb``). Then AVX2 finds a magnitude in one to four tables of 16,
beside a byte that has its sign; ``vpermb`` finds the value plus 64; ARM's ``tbl`` the value itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types

from lrc_kernels.shuffle_code import CODES, LANES, PASS, RINGS, ShuffleCode
from lrc_kernels.simd import neon, shuffle_neon
from lrc_kernels.simd.paths import path, picks_bits
from lrc_kernels.simd.values import (
    I8X32,
    I8X64,
    I16X16,
    Vector,
    call,
    constant,
    operation,
    pointer,
    shuffle,
)

_I64 = ir.IntType(64)
#: Whether ARM's lookups are used.
NEON = path() == "neon"
#: Whether 512-bit vectors are used, which needs ``vpermb`` and ``gf2p8affineqb``.
WIDE = picks_bits() and bool(get_host_cpu_features().get("gfni", False))
#: Bytes of a vector of codes, and vectors of eight rings side by side.
BYTES = I8X64 if WIDE else I8X32
PARTS = 1 if WIDE else 2
#: What is added to a value so that it is unsigned, where one table holds them.
BIAS = 64


def splat_all(value: int, vector: Vector = BYTES) -> ir.Constant:
    """The same value in every lane."""
    return constant(vector, [value] * vector.lanes)


def _load(builder: Any, address: Any, skip: int) -> Any:
    place = builder.add(address, ir.Constant(_I64, skip))
    return builder.load(pointer(builder, place, BYTES.ir), align=1)


def _shuffle_bytes(builder: Any, table: Sequence[int], indices: list[Any]) -> list[Any]:
    """``table[index]`` a byte, by its lowest four bits where the highest is not set.

    All parts follow one another, so that the table is loaded once.
    """
    if NEON:
        return [neon.look_up(builder, table, index) for index in indices]
    entries = constant(BYTES, [int(v) for v in table] * (BYTES.lanes // 16))
    name = "llvm.x86.avx2.pshuf.b"
    return [call(builder, name, BYTES.ir, [entries, index]) for index in indices]


def bytes_of_pass(builder: Any, code: ShuffleCode, at: Any, after: Any, last: Any) -> list[Any]:
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


def indices_of_pass(builder: Any, code: ShuffleCode, parts: list[list[Any]]) -> Iterator[list[Any]]:
    """Of every weight, one after another, the indices of all parts."""
    if WIDE:
        return ([index] for index in _affine_indices(builder, code, *parts))
    return _nibble_indices(builder, code, parts)


def indices_of_bytes(builder: Any, code: ShuffleCode, data: list[Any]) -> list[Any]:
    """The same of one part, by nibbles."""
    return [index for (index,) in _nibble_indices(builder, code, [data])]


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


def _nibble_indices(builder: Any, code: ShuffleCode, parts: list[list[Any]]) -> Iterator[list[Any]]:
    """Of every weight the indices of all parts, in the form of `_placed`.

    With a bit below the sign that is always set.
    """
    always = 0 if NEON else 1 << (len(str(bin(_placed(code, code.sign)))) - 4)
    tables, nibbles = code.nibble_tables(), _nibbles(builder, parts)
    ready: list[list[Any]] = []
    for t in range(PASS):
        totals: list[Any] = []
        first = code.bits * t // 4
        for i, table in enumerate(tables[t % code.period]):
            if not table.any():
                continue
            # As late as can be: there are few registers.
            ready.extend(next(nibbles) for _ in range(first + i + 1 - len(ready)))
            placed = [_placed(code, int(v)) | (0 if totals else always) for v in table]
            totals = _xor(builder, totals, _shuffle_bytes(builder, placed, ready[first + i]))
        yield totals


def _nibbles(builder: Any, parts: list[list[Any]]) -> Iterator[list[Any]]:
    """The nibbles of bytes, lowest first, of all parts."""
    low, four = (ir.Constant(parts[0][0].type, [v] * parts[0][0].type.count) for v in (15, 4))
    for values in zip(*parts, strict=True):
        yield [builder.and_(value, low) for value in values]
        yield [builder.and_(builder.lshr(value, four), low) for value in values]


def _xor(builder: Any, totals: list[Any], more: list[Any]) -> list[Any]:
    if not totals:
        return more
    return [builder.xor(a, b) for a, b in zip(totals, more, strict=True)]


def _moved_up(builder: Any, indices: list[Any], bits: int) -> list[Any]:
    """Indices shifted; as words, which takes one instruction, so the lowest bits are any."""
    by = splat_all(bits, I16X16)
    words = [builder.bitcast(index, I16X16.ir) for index in indices]
    return [builder.bitcast(builder.shl(word, by), BYTES.ir) for word in words]


def magnitudes_and_signs(
    builder: Any, code: ShuffleCode, indices: list[Any]
) -> tuple[list[Any], list[Any]]:
    """Magnitudes u8, and bytes whose sign is the value's, none of which is zero."""
    lowest = [builder.and_(index, splat_all(15)) for index in indices]
    tables = np.array(code.magnitudes).reshape(-1, 16)
    half = len(tables) // 2
    if half == 0:
        return _shuffle_bytes(builder, tables[0].tolist(), lowest), indices
    # Where bit 7 of an index is set a lookup by it gives zero, and the upper half is left.
    found = [
        _xor(builder, _shuffle_bytes(builder, high.tolist(), lowest),
             _shuffle_bytes(builder, (low ^ high).tolist(), indices))
        for low, high in zip(tables[:half], tables[half:], strict=True)
    ]  # fmt: skip
    if half == 1:
        return found[0], _moved_up(builder, indices, 1)
    # Bit 6 picks between quarters.
    pairs = zip(*found, _moved_up(builder, indices, 1), strict=True)
    sizes = [call(builder, "llvm.x86.avx2.pblendvb", BYTES.ir, list(pair)) for pair in pairs]
    return sizes, _moved_up(builder, indices, 2)


def values_of(builder: Any, code: ShuffleCode, indices: list[Any]) -> list[Any]:
    """Values i8, or with 512 bits those plus `BIAS`."""
    of_index = _look_up if WIDE else shuffle_neon.signed_values
    return [of_index(builder, code, index) for index in indices]


def _look_up(builder: Any, code: ShuffleCode, index: Any) -> Any:
    """Values plus `BIAS`, u8, by ``vpermb``."""
    levels = [int(v) + BIAS for v in code.levels()]
    if len(levels) <= 64:
        table = constant(BYTES, levels * (64 // len(levels)))
        return call(builder, "llvm.x86.avx512.permvar.qi.512", BYTES.ir, [table, index])
    low, high = (constant(BYTES, levels[i : i + 64]) for i in (0, 64))
    return call(builder, "llvm.x86.avx512.vpermi2var.qi.512", BYTES.ir, [low, index, high])


def _make_levels(code: ShuffleCode) -> Any:
    @operation(types.void, types.intp, types.intp, types.boolean, types.intp)
    def store_levels(builder: Any, at: Any, after: Any, last: Any, out: Any) -> None:
        data = bytes_of_pass(builder, code, at, after, last)
        for t, indices in enumerate(indices_of_pass(builder, code, [data])):
            if WIDE or NEON:
                (value,) = values_of(builder, code, indices)
                value = builder.sub(value, splat_all(BIAS)) if WIDE else value
            else:
                (size,), (sign,) = magnitudes_and_signs(builder, code, indices)
                value = call(builder, "llvm.x86.avx2.psign.b", BYTES.ir, [size, sign])
            place = builder.add(out, ir.Constant(_I64, LANES * t))
            builder.store(value, pointer(builder, place, BYTES.ir), align=1)

    return store_levels


#: ``store_levels(at, after, last, out)``: integers i8 (8 weights, 64) of a pass, or those of the
#: lanes of one of two vectors; see `step_seven`.
store_levels = {key: _make_levels(code) for key, code in CODES.items()}
