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

from lrc.codebooks.base import EngineRow
from lrc.nn.linear import DenseLinear, Linear
from lrc.nn.packed import PackedLinear
from lrc.parts import are_compiled, describe
from lrc.parts.matrix import PackedMatrix
from lrc.parts.signs import kernel_signs
from lrc_kernels.cpu.dot import product
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
            numbers[product.GAIN] = linear.matrix.gain
            self._rotation(linear.matrix, row, numbers)
            for term in linear.matrix.terms:
                self._add(term.decode_row(), row, numbers)
        else:
            raise TypeError(f"a {type(linear).__name__} has no layout for the decode kernels")
        if linear.bias is not None:
            row[product.BIAS] = self.address(linear.bias)
        return row, numbers

    def _add(self, part: EngineRow, row: list[int], numbers: list[float]) -> None:
        """Enter a part's fields; each may need its own forms of the vector."""
        for place, value in part.integers.items():
            known = value if isinstance(value, int) else self.field(value)
            row[place] = row[place] | known if place == product.ORDERS else known
        for place, number in part.floats.items():
            numbers[place] = number

    def field(self, array: NDArray[Any]) -> int:
        """Address of an array; of tables, which are read-only, one copy serves all."""
        is_table = array.base is None and not array.flags.writeable
        return self._shared(array) if is_table else self.address(array)

    def _rotation(self, matrix: PackedMatrix, row: list[int], numbers: list[float]) -> None:
        m, n = matrix.shape
        for signs, place, real, at, scale, size in (
            (matrix.signs_in, product.SIGNS_IN, product.REAL_IN, product.BLOCK_IN,
             product.SCALE_IN, n),
            (matrix.signs_out, product.SIGNS_OUT, product.REAL_OUT, product.BLOCK_OUT,
             product.SCALE_OUT, m),
        ):  # fmt: skip
            if signs is None:
                continue
            self._signs(signs, row, place, real)
            block, order = hadamard_block(size)
            row[at : at + 2] = block, order
            if order > 1:
                row[at + 2] = self.address(signs_matrix(order))
            numbers[scale] = 1 / math.sqrt(block)

    def _signs(self, signs: NDArray[Any], row: list[int], at: int, real: int) -> None:
        """Bits stay where they are; real numbers in their place are read as float32."""
        diagonal = kernel_signs(signs)
        row[at], row[real] = self.address(diagonal), int(diagonal.dtype == np.float32)

    def _shared(self, table: NDArray[Any]) -> int:
        """Address of a table that many matrices use."""
        key = (table.dtype.str, table.tobytes())
        if key not in self._known:
            self._known[key] = self.address(table)
        return self._known[key]


def without_layout(linear: Linear) -> str:
    """Why the decode kernels do not read such a layer; an empty text where they do."""
    if isinstance(linear, PackedLinear):
        records = [part.record() for part in linear.matrix.parts]
        return "" if are_compiled(records) else f"matrices of {describe(records)}"
    return "" if isinstance(linear, DenseLinear) else "weights as they are stored"


def _both_orders(first: list[int], second: list[int]) -> int:
    """Forms that two matrices need of one vector; seven bits only where both are content."""
    a, b = first[product.ORDERS], second[product.ORDERS]
    return (a | b) & ~activations.SEVEN | (a & b & activations.SEVEN)


def _signs_in(linear: Linear) -> bytes:
    if isinstance(linear, PackedLinear) and linear.matrix.signs_in is not None:
        return linear.matrix.signs_in.tobytes()
    return b""
