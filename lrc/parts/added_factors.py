"""Factors in float32 that are added to a compressed matrix in memory; no file holds them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lrc.codebooks.base import EngineRow
from lrc.parts.base import F32, Each, Part, PartRecord, Shape, Specs, Tensors, apart, require
from lrc.parts.fields import Fields
from lrc.parts.low_rank import LowRank, low_rank_record
from lrc.parts.matrix import PackedMatrix
from lrc.parts.signs import unpack_signs
from lrc_kernels.rotate import hadamard_transform


@dataclass(frozen=True)
class FloatFactors(Part):
    """gain * left^T right in the rotated basis, with all L R that the matrix has.

    Attributes
    ----------
    left, right
        L^T (r, m) and R (r, n), float32.
    """

    kind: ClassVar[str] = LowRank.kind
    fields: ClassVar[Fields] = LowRank.fields

    left: F32
    right: F32

    @classmethod
    def layout(cls, record: PartRecord, shape: Shape) -> Specs:
        """Refused: nothing of it is stored."""
        raise TypeError("factors that were added in memory have no layout in a file")

    @classmethod
    def read(cls, record: PartRecord, shape: Shape, tensors: Tensors) -> FloatFactors:
        """Refused likewise."""
        raise TypeError("factors that were added in memory are in no file")

    @classmethod
    def label(cls, record: PartRecord) -> str:
        """The rank."""
        return LowRank.label(record)

    def record(self) -> dict[str, Any]:
        """As of factors in 16 bits: engines need not tell them apart."""
        return low_rank_record(len(self.right), 16)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Both factors."""
        return {"left": self.left, "right": self.right}

    @property
    def shape(self) -> Shape:
        """(m, n)."""
        return self.left.shape[1], self.right.shape[1]

    def _scaled(self) -> F32:
        left: F32 = self.left * np.float32(self.gain)
        return left

    def factored(self) -> tuple[F32, ...]:
        """L with the gain, (m, r), and R, (r, n)."""
        return np.ascontiguousarray(self._scaled().T), self.right

    def rows(self, ids: NDArray[np.integer]) -> F32:
        """Rows of the product."""
        rows: F32 = np.ascontiguousarray(self._scaled()[:, ids].T) @ self.right
        return rows

    def apply(self, z: F32, each: Each, *, integers: bool) -> F32:
        """L (R z)."""
        left = self._scaled()
        return apart(lambda x: (x @ self.right.T) @ left, z, few=integers)

    @classmethod
    def place(cls, record: PartRecord) -> str | None:
        """The factors' place."""
        return LowRank.place(record)

    def decode_row(self) -> EngineRow:
        """Both as they are."""
        from lrc_kernels.cpu.dot import product

        integers: dict[int, int | NDArray[Any]] = {
            product.RANK: len(self.right),
            product.LEFT: self.left, product.LEFT_BITS: 32,
            product.RIGHT: self.right, product.RIGHT_BITS: 32,
        }  # fmt: skip
        return EngineRow(integers, {})

    def prompt_row(self) -> EngineRow | None:
        """Both, the left one with the gain."""
        from lrc_kernels.cpu.engine import prompt_parts

        return EngineRow({prompt_parts.LEFT: self._scaled(), prompt_parts.RIGHT: self.right}, {})


def with_low_rank(matrix: PackedMatrix, down: F32, up: F32) -> PackedMatrix:
    """The matrix plus up^T down; all its factors become one part of float32.

    Parameters
    ----------
    matrix : PackedMatrix
        (m, n), without outlier parts of its own kind beside L R.
    down, up : (r, n) and (r, m) float32
        In the basis of inputs and outputs, as of an adapter.

    Raises
    ------
    FormatError
        The gain of the matrix is 0, which nothing can be added beneath.
    """
    require(matrix.gain != 0, "a matrix of gain 0 has no place for an adapter")
    lefts = [_rotated(up, matrix.signs_out) / np.float32(matrix.gain)]
    rights, others = [_rotated(down, matrix.signs_in)], []
    for part in matrix.parts:
        if isinstance(part, LowRank):
            lefts.insert(0, part.left.to_dense())
            rights.insert(0, part.right.to_dense())
        elif isinstance(part, FloatFactors):
            lefts.insert(0, part.left)
            rights.insert(0, part.right)
        else:
            others.append(part)
    left, right = (np.ascontiguousarray(np.concatenate(x), np.float32) for x in (lefts, rights))
    return dataclasses.replace(matrix, parts=(*others, FloatFactors(left, right)))


def _rotated(rows: F32, signs: NDArray[Any] | None) -> F32:
    """Rows (r, size) as they are in the basis of the codes, so that products stay what they are."""
    diagonal = unpack_signs(signs, rows.shape[1])
    if diagonal is None:
        return rows
    # Numbers in the place of signs are undone, which of signs is to multiply once more.
    return hadamard_transform((rows / diagonal).astype(np.float32))
