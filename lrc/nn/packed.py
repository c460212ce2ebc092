"""Layers on packed weights: ``y = Q x + L (R x)``, computed from the codes.

A single token goes through the matvec kernels and builds nothing dense. Several tokens decode
a tile of rows at a time, fixed in size, and multiply it with BLAS.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import chunks
from lrc.codebooks.base import Codebook, CodedRows
from lrc.errors import FormatError
from lrc.nn.linear import Linear
from lrc.nn.tiles import each_tile, integers_allowed, row_tiles
from lrc.parts.matrix import PackedMatrix

F32 = NDArray[np.float32]

#: Tokens that are rotated at a time.
ROTATED_ROWS = 64
#: Rows of one piece of work on integers, whole bands of every codebook.
TILE_ROWS = 4096


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
        self._left: F32 | None = None
        self._right: F32 | None = None
        if matrix.rank > 0:
            L, R = matrix.low_rank()
            self._left, self._right = np.ascontiguousarray(L.T), R

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs."""
        return self.matrix.shape

    @property
    def factors(self) -> tuple[F32, F32] | None:
        """L transposed (rank, m) and R (rank, n) as float32, or None."""
        if self._left is None or self._right is None:
            return None
        return self._left, self._right

    def __call__(self, x: F32) -> F32:
        """Map (..., n) float32 to (..., m) float32."""
        return self._finish(self._rotate(x), x.shape[:-1])

    def apply_with(self, others: Sequence[Linear], x: F32) -> list[F32]:
        """Apply this layer, then ``others``, to one x; equal signs share the rotation."""
        z = self._rotate(x)
        return [
            f._finish(z, x.shape[:-1])
            if isinstance(f, PackedLinear) and self._same_input(f)
            else f(x)
            for f in (self, *others)
        ]

    def _same_input(self, other: PackedLinear) -> bool:
        mine, theirs = self.matrix.signs_in, other.matrix.signs_in
        if mine is None or theirs is None:
            return mine is theirs
        return self.shape[1] == other.shape[1] and np.array_equal(mine, theirs)

    def _rotate(self, x: F32) -> F32:
        """X (..., n) as rows (T, n), in the basis of the codes."""
        z = np.ascontiguousarray(x, np.float32).reshape(-1, self.shape[1])
        return _rotated(z, self.matrix.signs_in, back=False)

    def _finish(self, z: F32, leading: tuple[int, ...]) -> F32:
        """The layer's output (*leading, m) from rotated rows z (T, n)."""
        m = self.shape[0]
        y = self._vector(z[0])[None] if z.shape[0] == 1 else self._tiles(z)
        if self._left is not None and self._right is not None:
            y += (z @ self._right.T) @ self._left
        y = _rotated(y, self.matrix.signs_out, back=True)
        if self.bias is not None:
            y += self.bias
        return y.reshape(*leading, m)

    def _vector(self, x: F32) -> F32:
        """Q times one vector f32 (n,), from the codes: f32 (m,)."""
        coding, coded = self.matrix.coding, self.matrix.coded
        if coding is None:
            return np.zeros(self.shape[0], np.float32)
        if integers_allowed() and coding.takes_integers(coded):
            return integer_product(coding, coded, x)
        return coding.matvec(coded, x)

    def _tiles(self, z: F32) -> F32:
        """Q times several vectors f32 (T, n), a tile of decoded rows at a time: f32 (T, m)."""
        m = self.shape[0]
        y = np.zeros((z.shape[0], m), np.float32)
        if self.matrix.coding is None:
            return y

        def tile(rows: slice) -> None:
            np.matmul(z, self.decoded_rows(rows).T, out=y[:, rows])

        each_tile(tile, row_tiles(m, max(self.matrix.coded.band, 16)))
        return y

    def decoded_rows(self, rows: slice) -> F32:
        """Rows of Q with scales and gain, in the rotated basis: f32 (count, n).

        What ``matrix.rows`` gives, to rounding, at many times its speed. Whole bands are decoded,
        and cut where ``rows``, of step 1, begin or end.
        """
        coding, coded = self.matrix.coding, self.matrix.coded
        start, stop, _ = rows.indices(self.shape[0])
        if coding is None:
            return np.zeros((stop - start, self.shape[1]), np.float32)
        first = start // coded.band
        found = coding.rows(coded.held_by(slice(first, -(-stop // coded.band))))
        return found[start - coded.band * first : stop - coded.band * first]


def integer_product(coding: Codebook, coded: CodedRows, x: F32) -> F32:
    """Q times a vector f32 (n,) on 15-bit activations: for heads, whose rows are many.

    On the threads of `tile_threads`; ``coding`` takes integers.
    """
    from lrc_kernels.cpu.dot import matvec_i8

    act, y = matvec_i8.quantize(x), np.empty(coded.count, np.float32)

    def tile(rows: slice) -> None:
        held = slice(rows.start // coded.band, rows.stop // coded.band)
        coding.matvec_integers(coded.held_by(held), act, y[rows])

    each_tile(tile, chunks(coded.count, TILE_ROWS))
    return y


def _rotated(x: F32, signs: NDArray[np.uint8] | None, *, back: bool) -> F32:
    """Rows x (T, n) rotated, or rotated back in place (``back``); x itself without signs."""
    if signs is None:
        return x
    from lrc_kernels.cpu.transform.rotate_rows import rotate_rows

    out = x if back else np.empty_like(x)

    def part(rows: slice) -> None:
        rotate_rows(x[rows], signs, out[rows], back=back)

    each_tile(part, chunks(x.shape[0], ROTATED_ROWS))
    return out


class PackedEmbedding:
    """An embedding on a packed table, which may also serve as a tied head.

    Parameters
    ----------
    matrix
        The packed table (vocab, n), not rotated: rows must decode one by one.
    """

    def __init__(self, matrix: PackedMatrix) -> None:
        if matrix.rotation != "none":
            raise FormatError(f"an embedding cannot have rotation {matrix.rotation!r}; use 'none'")
        self.matrix = matrix
        self._low_rank = matrix.low_rank() if matrix.rank > 0 else None

    @property
    def shape(self) -> tuple[int, int]:
        """(vocab, n)."""
        return self.matrix.shape

    def rows(self, ids: NDArray[np.integer]) -> F32:
        """Rows (..., n) float32 at ``ids`` (...); only these are decoded."""
        flat = np.asarray(ids).reshape(-1)
        values = self.matrix.rows(flat)
        if self._low_rank is not None:
            L, R = self._low_rank
            values += L[flat] @ R
        return values.reshape(*np.shape(ids), self.shape[1])
