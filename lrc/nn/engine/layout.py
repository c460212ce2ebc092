"""A model as the decode kernels read it: rows of addresses and numbers, nothing copied.

Scales of rows become float32 with the gain folded in; codes, signs, factors and group scales
stay where they are, usually in a memory-mapped file. The layout keeps every array alive.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.codebooks.codec import LATTICE, RESIDUAL_SCALE, STATE_BITS, TRELLIS, band_rows, levels
from lrc.nn.level_bytes import LevelBytes, level_bytes
from lrc.nn.linear import DenseLinear, Linear
from lrc.nn.packed import PackedLinear
from lrc.parts.matrix import Factor, PackedMatrix
from lrc_kernels.cpu.dot import product
from lrc_kernels.cpu.dot.dot_trellis import FACTOR
from lrc_kernels.cpu.transform import activations
from lrc_kernels.hadamard_order import hadamard_block
from lrc_kernels.rotate import signs_matrix

F32 = NDArray[np.float32]


class Layout:
    """Descriptions of matrices, in the order they were added."""

    def __init__(self) -> None:
        self._integers: list[list[int]] = []
        self._floats: list[list[float]] = []
        self._kept: list[NDArray[Any]] = []
        self._known: dict[tuple[Any, ...], int] = {}

    def address(self, array: NDArray[Any]) -> int:
        """Address of a C-contiguous array, which is kept alive; others are copied first."""
        whole = np.ascontiguousarray(array)
        self._kept.append(whole)
        return int(whole.ctypes.data)

    def tables(self) -> tuple[NDArray[np.int64], F32]:
        """Every description: i64 (matrices, INTEGERS) and f32 (matrices, FLOATS)."""
        return np.array(self._integers, np.int64), np.array(self._floats, np.float32)

    def add_site(self, linears: Sequence[Linear]) -> None:
        """Add matrices that share one input; equal signs share its rotation."""
        rows = [self._describe(linear) for linear in linears]
        previous: bytes | None = None
        first = 0
        for i, linear in enumerate(linears):
            signs = _signs_in(linear)
            integers = rows[i][0]
            if i > 0 and signs == previous:
                integers[product.SHARED] = 1
                rows[first][0][product.ORDERS] = _both_orders(rows[first][0], integers)
            else:
                first, previous = i, signs
        for integers, floats in rows:
            self._integers.append(integers)
            self._floats.append(floats)

    def _describe(self, linear: Linear) -> tuple[list[int], list[float]]:
        row, numbers = [0] * product.INTEGERS, [0.0] * product.FLOATS
        row[product.ROWS], row[product.COLUMNS] = linear.shape
        if isinstance(linear, DenseLinear):
            row[product.KIND] = product.DENSE
            row[product.CODES] = self.address(linear.weight)
        elif isinstance(linear, PackedLinear):
            self._codes(linear.matrix, row, numbers)
            self._rotation(linear.matrix, row, numbers)
            self._factors(linear.matrix, row, numbers)
        else:
            raise TypeError(f"a {type(linear).__name__} has no layout for the decode kernels")
        if linear.bias is not None:
            row[product.BIAS] = self.address(linear.bias)
        return row, numbers

    def _codes(self, matrix: PackedMatrix, row: list[int], numbers: list[float]) -> None:
        numbers[product.GAIN] = matrix.gain
        if matrix.codebook == "none":
            return
        row[product.CODES] = self.address(matrix.planes[0])
        row[product.BITS] = matrix.bits
        if matrix.codebook in LATTICE:
            row[product.KIND] = product.LATTICE
            row[product.ORDERS] = activations.LATTICE
            self._row_scales(matrix, row)
            if len(matrix.planes) > 1:
                row[product.SECOND] = self.address(matrix.planes[1])
                numbers[product.INVERSE] = 1 / RESIDUAL_SCALE[matrix.codebook]
            return
        if matrix.codebook in TRELLIS:
            row[product.KIND] = product.TRELLIS
            row[product.ORDERS] = activations.TWICE | activations.SEVEN
            row[product.SECOND] = STATE_BITS[matrix.codebook]
            row[product.TABLE] = int(FACTOR)
            row[product.REPEAT] = band_rows(matrix.codebook, matrix.shape[0])
            self._row_scales(matrix, row)
            return
        by_64 = matrix.group_size % 64 == 0 and matrix.scales.shape[0] == matrix.shape[0]
        known = level_bytes(matrix.codebook, matrix.bits)
        if known is not None and (by_64 or matrix.scales.shape[1] == 1):
            self._levels(matrix, known, row, numbers)
            return
        row[product.KIND] = product.ANY_LEVELS
        row[product.TABLE] = self._shared("f32", levels(matrix.codebook, matrix.bits))
        row[product.GROUPS] = matrix.scales.shape[1]
        row[product.REPEAT] = matrix.group_size or matrix.shape[1]
        row[product.SCALES] = self.address(matrix.scales.astype(np.float32))
        row[product.SCALE_STEP] = int(matrix.scales.shape[0] > 1)

    def _levels(
        self, matrix: PackedMatrix, known: LevelBytes, row: list[int], numbers: list[float]
    ) -> None:
        row[product.KIND] = product.LEVELS
        row[product.ORDERS] = _order(matrix.bits)
        row[product.TABLE], numbers[product.UNIT], numbers[product.CENTRE] = self._entries(known)
        if matrix.scales.shape[1] == 1:
            self._row_scales(matrix, row)
            return
        row[product.HALVES] = self.address(matrix.scales)
        row[product.GROUPS] = matrix.scales.shape[1]
        row[product.REPEAT] = matrix.group_size // 64
        row[product.SCALES] = self.address(np.array([matrix.gain], np.float32))

    def _entries(self, known: LevelBytes) -> tuple[int, float, float]:
        """Address of a table of bytes (0: none needed), unit and centre."""
        table = 0 if known.entries is None else self._shared("bytes", known.entries)
        return table, known.unit, known.centre

    def _row_scales(self, matrix: PackedMatrix, row: list[int]) -> None:
        scales = matrix.scales.astype(np.float32) * np.float32(matrix.gain)
        row[product.SCALES] = self.address(scales)
        row[product.SCALE_STEP] = 4 if scales.shape[0] > 1 else 0

    def _rotation(self, matrix: PackedMatrix, row: list[int], numbers: list[float]) -> None:
        if matrix.signs_in is None or matrix.signs_out is None:
            return
        row[product.SIGNS_IN] = self.address(matrix.signs_in)
        row[product.SIGNS_OUT] = self.address(matrix.signs_out)
        for at, scale, size in (
            (product.BLOCK_IN, product.SCALE_IN, matrix.shape[1]),
            (product.BLOCK_OUT, product.SCALE_OUT, matrix.shape[0]),
        ):
            block, order = hadamard_block(size)
            row[at : at + 2] = block, order
            if order > 1:
                row[at + 2] = self.address(signs_matrix(order))
            numbers[scale] = 1 / math.sqrt(block)

    def _factors(self, matrix: PackedMatrix, row: list[int], numbers: list[float]) -> None:
        if matrix.rank == 0 or matrix.left is None or matrix.right is None:
            return
        row[product.RANK] = matrix.rank
        left, right = matrix.left, matrix.right
        row[product.LEFT : product.LEFT + 2] = self._words(left)
        row[product.RIGHT : product.RIGHT + 2] = self._words(right)
        if left.bits < 16:
            row[product.LEFT_LEVELS] = self._shared("f32", levels("lloyd-max", left.bits))
            row[product.LEFT_SCALES] = self.address(left.scales.astype(np.float32))
        if right.bits < 16:
            row[product.RIGHT_LEVELS] = self._shared("f32", levels("lloyd-max", right.bits))
            row[product.RIGHT_SCALES] = self.address(right.scales.astype(np.float32))
        known = level_bytes("lloyd-max", left.bits)
        if known is not None:
            row[product.LEFT_TABLE], numbers[product.LEFT_UNIT], _ = self._entries(known)
        known = level_bytes("lloyd-max", right.bits)
        if known is not None:
            row[product.ORDERS] |= _order(right.bits)
            table, numbers[product.RIGHT_UNIT], numbers[product.RIGHT_CENTRE] = self._entries(known)
            row[product.RIGHT_TABLE] = table

    def _words(self, factor: Factor) -> tuple[int, int]:
        """Address and bits of a factor; float16 entries become float32 (32)."""
        if factor.bits == 16:
            return self.address(factor.words.astype(np.float32)), 32
        return self.address(factor.words), factor.bits

    def _shared(self, name: str, table: NDArray[Any]) -> int:
        """Address of a table that many matrices use."""
        key = (name, table.tobytes())
        if key not in self._known:
            self._known[key] = self.address(table)
        return self._known[key]


def _order(bits: int) -> int:
    return {2: activations.BY_FOUR, 4: activations.BY_TWO}.get(bits, 0)


def _both_orders(first: list[int], second: list[int]) -> int:
    """Forms that two matrices need of one vector; seven bits only where both are content."""
    a, b = first[product.ORDERS], second[product.ORDERS]
    return (a | b) & ~activations.SEVEN | (a & b & activations.SEVEN)


def _signs_in(linear: Linear) -> bytes:
    if isinstance(linear, PackedLinear) and linear.matrix.signs_in is not None:
        return linear.matrix.signs_in.tobytes()
    return b""
