"""Layers on packed weights: the sum of what their parts make of the rotated input.

A single token builds nothing dense where a part can do without. Several tokens decode a tile of
rows at a time, fixed in size, and multiply it with BLAS. ``L (R x)`` never becomes a matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import chunks
from lrc.errors import FormatError
from lrc.nn.execution import PLAIN, Execution
from lrc.nn.linear import Linear
from lrc.parts.base import added
from lrc.parts.matrix import PackedMatrix
from lrc.parts.signs import kernel_signs

F32 = NDArray[np.float32]

#: Tokens that are rotated at a time.
ROTATED_ROWS = 64


class PackedLinear:
    """A linear layer on a packed matrix.

    Parameters
    ----------
    matrix
        The packed weight (m, n).
    bias
        f32 (m,) or None, in the original basis.
    """

    def __init__(self, matrix: PackedMatrix, bias: F32 | None = None) -> None:
        m = matrix.shape[0]
        if bias is not None and bias.shape != (m,):
            raise FormatError(f"bias has shape {bias.shape}; the matrix needs ({m},)")
        self.matrix = matrix
        self.bias = bias

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs."""
        return self.matrix.shape

    def __call__(self, x: F32, execution: Execution = PLAIN) -> F32:
        """Map (..., n) float32 to (..., m) float32."""
        return self._finish(self._rotate(x, execution), x.shape[:-1], execution)

    def apply_with(
        self, others: Sequence[Linear], x: F32, execution: Execution = PLAIN
    ) -> list[F32]:
        """Apply this layer, then ``others``, to one x; equal signs share the rotation."""
        z = self._rotate(x, execution)
        return [
            f._finish(z, x.shape[:-1], execution)
            if isinstance(f, PackedLinear) and self._same_input(f)
            else f(x, execution)
            for f in (self, *others)
        ]

    def _same_input(self, other: PackedLinear) -> bool:
        mine, theirs = self.matrix.signs_in, other.matrix.signs_in
        if mine is None or theirs is None:
            return mine is theirs
        return self.shape[1] == other.shape[1] and np.array_equal(mine, theirs)

    def _rotate(self, x: F32, execution: Execution) -> F32:
        """X (..., n) as rows (T, n), in the basis of the codes."""
        z = np.ascontiguousarray(x, np.float32).reshape(-1, self.shape[1])
        return _rotated(z, self.matrix.signs_in, execution, back=False)

    def _finish(self, z: F32, leading: tuple[int, ...], execution: Execution) -> F32:
        """The layer's output (*leading, m) from rotated rows z (T, n)."""
        m, terms, integers = self.shape[0], self.matrix.terms, execution.integers
        summands = (term.apply(z, execution.each, integers=integers) for term in terms)
        y = added(summands, (len(z), m))
        y = _rotated(y, self.matrix.signs_out, execution, back=True)
        if self.bias is not None:
            y += self.bias
        return y.reshape(*leading, m)


def _rotated(x: F32, signs: NDArray[Any] | None, execution: Execution, *, back: bool) -> F32:
    """Rows x (T, n) rotated, or rotated back in place (``back``); x itself without signs."""
    if signs is None:
        return x
    from lrc_kernels.cpu.transform.rotate_rows import rotate_rows

    out = x if back else np.empty_like(x)
    diagonal = kernel_signs(signs)

    def part(rows: slice) -> None:
        rotate_rows(x[rows], diagonal, out[rows], back=back)

    execution.each(part, chunks(x.shape[0], ROTATED_ROWS))
    return out


class PackedEmbedding:
    """An embedding on a packed table, which may also serve as a tied head.

    Parameters
    ----------
    matrix
        The packed table (vocab, n), its outputs not rotated: rows must decode one by one.
    """

    def __init__(self, matrix: PackedMatrix) -> None:
        if matrix.signs_out is not None:
            raise FormatError(
                f"an embedding cannot have rotation {matrix.rotation!r}; use 'none' or 'inputs'"
            )
        self.matrix = matrix

    @property
    def shape(self) -> tuple[int, int]:
        """(vocab, n)."""
        return self.matrix.shape

    def rows(self, ids: NDArray[np.integer]) -> F32:
        """Rows (..., n) float32 at ``ids`` (...); only these are decoded."""
        values = self.matrix.original_rows(np.asarray(ids).reshape(-1))
        return values.reshape(*np.shape(ids), self.shape[1])
