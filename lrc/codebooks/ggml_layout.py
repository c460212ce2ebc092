"""Bytes of ggml's blocks: which bits of a block are codes, which are scales, and in what order.

A block has 32 or 256 weights of a row. Its numbers are cut into fields of 1 to 8 bits; a byte has
fields of numbers that lie ``width`` apart. Source: the format's description in ggml, and the
package ``gguf``, which the tests hold this to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
I8 = NDArray[np.int8]
F16 = NDArray[np.float16]


class Blocks(NamedTuple):
    """Numbers of blocks; a weight is ``d scales levels[codes] - dmin mins``.

    Attributes
    ----------
    codes
        u8 (..., weights of a block).
    scales, mins
        i8 and u8 (..., stretches of a block): whole multiples of ``d`` and ``dmin``.
    d, dmin
        f16 (...).
    """

    codes: U8
    scales: I8
    mins: U8
    d: F16
    dmin: F16


@dataclass(frozen=True)
class Field:
    """``bits`` bits of every number, ``shift`` above its lowest, in ``groups * width`` bytes.

    Number ``(group, i, j)`` lies in byte ``(group, j)``, ``bits i`` above its lowest bit; ``flip``
    is exclusive-ored to the byte.
    """

    bits: int
    groups: int
    width: int
    shift: int = 0
    flip: int = 0

    @property
    def size(self) -> int:
        """Bytes."""
        return self.groups * self.width

    def pack(self, numbers: U8) -> U8:
        """Bytes (..., size) of numbers (..., count)."""
        lead, fields = numbers.shape[:-1], 8 // self.bits
        shifted = numbers >> np.uint8(self.shift)
        each = shifted.reshape(*lead, self.groups, fields, self.width)
        each &= np.uint8((1 << self.bits) - 1)
        each <<= self._shifts
        found: U8 = np.bitwise_or.reduce(each, axis=-2).reshape(*lead, self.size)
        return found ^ np.uint8(self.flip)

    def unpack(self, packed: U8) -> U8:
        """Undo :meth:`pack`: the field's part of each number."""
        spread = packed.reshape(*packed.shape[:-1], self.groups, 1, self.width)
        each = ((spread ^ np.uint8(self.flip)) >> self._shifts) & np.uint8((1 << self.bits) - 1)
        count = self.size * (8 // self.bits)
        numbers: U8 = (each << np.uint8(self.shift)).reshape(*packed.shape[:-1], count)
        return numbers

    @property
    def _shifts(self) -> U8:
        return np.arange(0, 8, self.bits, dtype=np.uint8)[:, None]


class Affine4:
    """Scales and mins of 4 bits: a byte has both of a stretch."""

    size = 16

    @staticmethod
    def pack(scales: U8, mins: U8) -> U8:
        """Bytes (..., 16)."""
        return scales | mins << np.uint8(4)

    @staticmethod
    def unpack(packed: U8) -> tuple[U8, U8]:
        """Scales and mins (..., 16)."""
        return packed & np.uint8(15), packed >> np.uint8(4)


class Affine6:
    """Scales and mins of 6 bits in 12 bytes: of the last four, the upper bits lie apart."""

    size = 12

    @staticmethod
    def pack(scales: U8, mins: U8) -> U8:
        """Bytes (..., 12)."""
        early = [a[..., :4] | (a[..., 4:] >> np.uint8(4)) << np.uint8(6) for a in (scales, mins)]
        late = (scales[..., 4:] & np.uint8(15)) | mins[..., 4:] << np.uint8(4)
        return np.concatenate([*early, late], axis=-1)

    @staticmethod
    def unpack(packed: U8) -> tuple[U8, U8]:
        """Scales and mins (..., 8)."""
        late = packed[..., 8:]
        lows = (late & np.uint8(15), late >> np.uint8(4))
        found = []
        for early, low in zip((packed[..., :4], packed[..., 4:8]), lows, strict=True):
            high = (early >> np.uint8(6)) << np.uint8(4)
            found.append(np.concatenate([early & np.uint8(63), low | high], axis=-1))
        return found[0], found[1]


#: Pieces of a block, by what they hold.
Piece = tuple[str, "Field | Affine4 | Affine6 | None"]


@dataclass(frozen=True)
class Layout:
    """The pieces of a block in the order of its bytes.

    Attributes
    ----------
    pieces
        ``d`` and ``dmin`` (two bytes each), and fields of ``codes``, ``scales`` or both of
        ``affine``.
    zero
        What stands for a scale of 0; negative ones lie below.
    negated
        Whether ``dmin`` is written with the other sign.
    """

    block: int
    stretch: int
    pieces: tuple[Piece, ...]
    zero: int = 0
    negated: bool = False

    @property
    def size(self) -> int:
        """Bytes of a block."""
        return sum(2 if field is None else field.size for _, field in self.pieces)

    @property
    def count(self) -> int:
        """Stretches of a block."""
        return self.block // self.stretch

    def has(self, name: str) -> bool:
        """Whether a piece of this name is stored."""
        return any(name == known for known, _ in self.pieces)

    def range(self, name: str) -> tuple[int, int]:
        """Least and largest whole number of "scales" or "mins"; equal where none is stored."""
        if self.has("affine"):
            return 0, 15 if self.stretch == 16 else 63
        if name == "scales" and self.has("scales"):
            half = self.zero or 128
            return -half, half - 1
        fixed = int(name == "scales" or self.negated)
        return fixed, fixed

    def pack(self, blocks: Blocks) -> U8:
        """Bytes (..., size)."""
        dmin = -blocks.dmin if self.negated else blocks.dmin
        scales = (blocks.scales.astype(np.int16) + self.zero).astype(np.uint8)
        found = []
        for name, field in self.pieces:
            if field is None:
                half = (blocks.d if name == "d" else dmin).astype("<f2")
                found.append(half[..., None].view(np.uint8))
            elif isinstance(field, Field):
                found.append(field.pack(blocks.codes if name == "codes" else scales))
            else:
                found.append(field.pack(scales, blocks.mins))
        return np.concatenate(found, axis=-1)

    def unpack(self, packed: U8) -> Blocks:
        """Undo :meth:`pack`; what is not stored is 1 for scales, else 0."""
        lead = packed.shape[:-1]
        codes = np.zeros((*lead, self.block), np.uint8)
        scales, mins = (np.zeros((*lead, self.count), np.uint8) for _ in range(2))
        halves = {"d": np.zeros(lead, np.float16), "dmin": np.zeros(lead, np.float16)}
        at = 0
        for name, field in self.pieces:
            size = 2 if field is None else field.size
            own = np.ascontiguousarray(packed[..., at : at + size])
            at += size
            if field is None:
                halves[name] = own.view("<f2")[..., 0].astype(np.float16)
            elif not isinstance(field, Field):
                scales, mins = field.unpack(own)
            elif name == "codes":
                codes |= field.unpack(own)
            else:
                scales |= field.unpack(own)
        signed = scales.astype(np.int16) - self.zero
        if not (self.has("scales") or self.has("affine")):
            signed += 1
        if self.negated:
            halves["dmin"], mins = -halves["dmin"], mins + np.uint8(1)
        return Blocks(codes, signed.astype(np.int8), mins, halves["d"], halves["dmin"])
