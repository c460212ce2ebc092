"""L R: two factors of low rank, whose product is never formed where vectors are multiplied.

A record has ``rank`` and ``bits`` (2 to 8, or 16).

============== ============ =================== ===========================================
tensor         dtype        shape               meaning
============== ============ =================== ===========================================
left           U8, F16      (r, ceil(m bits/8)) L^T, Lloyd-Max codes; F16 (r, m) at 16 bits
left_scales    F16          (r,)                one a component; empty at 16 bits
right          U8, F16      (r, ceil(n bits/8)) R likewise
right_scales   F16          (r,)
============== ============ =================== ===========================================
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lrc.codebooks import WIDE
from lrc.codebooks.base import EngineRow, stray_bits
from lrc.codebooks.levels import levels
from lrc.codebooks.scalar import level_bytes, order
from lrc.formats.safetensors.writing import TensorSpec
from lrc.parts.base import F32, Each, Part, PartRecord, Shape, Specs, Tensors, apart, require
from lrc.parts.fields import COUNT, Fields
from lrc_kernels.backend import get_kernels

#: Bits of an entry.
FACTOR_BITS = (*range(2, 9), 16)


@dataclass(frozen=True)
class Factor:
    """One low-rank factor, components as rows.

    Attributes
    ----------
    bits
        2 to 8: packed Lloyd-Max codes; 16: float16 values.
    length
        Entries of a component: m for L^T, n for R.
    words
        u8 (r, ceil(length * bits / 8)), or float16 (r, length) when ``bits`` is 16.
    scales
        float16 (r,), what a component's levels are multiplied by; (0,) when ``bits`` is 16.
    """

    bits: int
    length: int
    words: NDArray[Any]
    scales: NDArray[np.float16]

    def __post_init__(self) -> None:
        plain = self.bits == 16
        require(self.bits in FACTOR_BITS, f"factor bits {self.bits} are not 2 to 8 or 16")
        width = self.length if plain else -(-self.length * self.bits // 8)
        rank = self.words.shape[0]
        require(
            self.words.shape == (rank, width)
            and self.words.dtype == (np.float16 if plain else np.uint8),
            f"words of a {self.bits}-bit factor of length {self.length} are "
            f"{self.words.dtype} {self.words.shape}; expected {width} a component",
        )
        require(
            self.scales.shape == ((0,) if plain else (rank,)) and self.scales.dtype == np.float16,
            f"scales of a {self.bits}-bit factor of rank {rank} are "
            f"{self.scales.dtype} {self.scales.shape}",
        )

    @property
    def rank(self) -> int:
        """Number of components."""
        return int(self.words.shape[0])

    @property
    def stored_bits(self) -> int:
        """Bits of words and scales."""
        return 8 * int(self.words.nbytes + self.scales.nbytes)

    def faults(self) -> tuple[str, ...]:
        """Bits beside the entries, and values that are not finite."""
        if self.bits < 16 and stray_bits(self.words, self.length * self.bits):
            return ("bits are set beside the entries of a factor",)
        floats = self.words if self.bits == 16 else self.scales
        return () if np.isfinite(floats).all() else ("a factor is not finite",)

    def to_dense(self) -> F32:
        """Return the components: f32 (r, length)."""
        if self.bits == 16:
            return self.words.astype(np.float32)
        codes = get_kernels().unpack_bits(self.words, self.bits, self.length)
        values = levels(WIDE, self.bits)[codes]
        values *= self.scales.astype(np.float32)[:, None]
        return values


def low_rank_record(rank: int, bits: int) -> dict[str, Any]:
    """The record of factors that need not exist yet."""
    return {"kind": LowRank.kind, "rank": rank, "bits": bits}


@dataclass(frozen=True)
class LowRank(Part):
    """L R = gain * left^T right.

    Attributes
    ----------
    left, right
        L^T (r, m) and R (r, n), of equal rank and bits.
    """

    kind: ClassVar[str] = "low_rank"
    fields: ClassVar[Fields] = {
        "rank": COUNT,
        "bits": (lambda v: type(v) is int and v in FACTOR_BITS, "2 to 8, or 16"),
    }

    left: Factor
    right: Factor

    def __post_init__(self) -> None:
        for what in ("rank", "bits"):
            both = getattr(self.left, what), getattr(self.right, what)
            require(both[0] == both[1], f"left and right factors have {what} {both}")
        require(self.rank > 0, "a low-rank part has rank 0; leave it out")

    @property
    def rank(self) -> int:
        """Number of components."""
        return self.right.rank

    # Storage

    @classmethod
    def layout(cls, record: PartRecord, shape: Shape) -> Specs:
        """Words and scales of both factors."""
        rank, bits = record["rank"], record["bits"]
        specs = {}
        for side, length in zip(("left", "right"), shape, strict=True):
            plain = bits == 16
            width = length if plain else -(-length * bits // 8)
            specs[side] = TensorSpec("F16" if plain else "U8", (rank, width))
            specs[f"{side}_scales"] = TensorSpec("F16", (0 if plain else rank,))
        return specs

    @classmethod
    def read(cls, record: PartRecord, shape: Shape, tensors: Tensors) -> LowRank:
        """Factors on the stored words."""
        left, right = (
            Factor(record["bits"], length, tensors[side], tensors[f"{side}_scales"])
            for side, length in zip(("left", "right"), shape, strict=True)
        )
        return cls(left, right)

    @classmethod
    def label(cls, record: PartRecord) -> str:
        """The rank."""
        return f"rank {record['rank']}"

    def record(self) -> dict[str, Any]:
        """Rank and bits."""
        return low_rank_record(self.rank, self.right.bits)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Words and scales."""
        return {
            "left": self.left.words,
            "left_scales": self.left.scales,
            "right": self.right.words,
            "right_scales": self.right.scales,
        }

    def faults(self) -> tuple[str, ...]:
        """Those of both factors."""
        return (*self.left.faults(), *self.right.faults())

    # Values

    @property
    def shape(self) -> Shape:
        """(m, n)."""
        return self.left.length, self.right.length

    @cached_property
    def _left(self) -> F32:
        """L^T with the gain, f32 (r, m)."""
        left = self.left.to_dense()
        left *= np.float32(self.gain)
        return left

    @cached_property
    def _right(self) -> F32:
        """R, f32 (r, n)."""
        return self.right.to_dense()

    def factored(self) -> tuple[F32, ...]:
        """L with the gain, (m, r), and R, (r, n)."""
        return np.ascontiguousarray(self._left.T), self._right

    def rows(self, ids: NDArray[np.integer]) -> F32:
        """Rows of the product."""
        rows: F32 = np.ascontiguousarray(self._left[:, ids].T) @ self._right
        return rows

    def apply(self, z: F32, each: Each, *, integers: bool) -> F32:
        """L (R z)."""
        return apart(lambda x: (x @ self._right.T) @ self._left, z, few=integers)

    # Engines

    @classmethod
    def place(cls, record: PartRecord) -> str | None:
        """The factors' place: every width is compiled."""
        return cls.kind

    def decode_row(self) -> EngineRow:
        """Words, levels and scales of both factors; as bytes where the levels allow it."""
        from lrc_kernels.cpu.dot import product

        integers: dict[int, int | NDArray[Any]] = {product.RANK: self.rank}
        floats: dict[int, float] = {}
        for factor, words, bits, table, scales in (
            (self.left, product.LEFT, product.LEFT_BITS, product.LEFT_LEVELS, product.LEFT_SCALES),
            (self.right, product.RIGHT, product.RIGHT_BITS, product.RIGHT_LEVELS,
             product.RIGHT_SCALES),
        ):  # fmt: skip
            # Entries of 16 bits are read as float32.
            plain = factor.bits == 16
            integers[words] = factor.words.astype(np.float32) if plain else factor.words
            integers[bits] = 32 if plain else factor.bits
            if not plain:
                integers[table] = levels(WIDE, factor.bits)
                integers[scales] = factor.scales.astype(np.float32)
        known = level_bytes(WIDE, self.right.bits)
        if known is not None:
            entries = 0 if known.entries is None else known.entries
            integers[product.LEFT_TABLE] = integers[product.RIGHT_TABLE] = entries
            integers[product.ORDERS] = order(self.right.bits)
            floats[product.LEFT_UNIT] = floats[product.RIGHT_UNIT] = known.unit
            floats[product.RIGHT_CENTRE] = known.centre
        return EngineRow(integers, floats)

    def prompt_row(self) -> EngineRow | None:
        """Both factors as float32."""
        from lrc_kernels.cpu.engine import prompt_parts

        return EngineRow({prompt_parts.LEFT: self._left, prompt_parts.RIGHT: self._right}, {})
