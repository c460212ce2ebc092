"""Layers on packed weights: ``y = Q x + L (R x)``, computed from the codes.

A single token goes through the matvec kernels and builds nothing dense. Several tokens decode
a tile of rows at a time, fixed in size, and multiply it with BLAS.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc.errors import FormatError
from lrc.formats.codec import LATTICE, RESIDUAL_SCALE, levels
from lrc.formats.matrix import PackedMatrix, unpack_signs
from lrc_kernels.backend import get_kernels
from lrc_kernels.rotate import hadamard_transform

F32 = NDArray[np.float32]

#: Rows that are decoded at a time for several tokens.
TILE_ROWS = 256


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
        m, n = matrix.shape
        if bias is not None and bias.shape != (m,):
            raise FormatError(f"bias has shape {bias.shape}; the matrix needs ({m},)")
        self.matrix = matrix
        self.bias = bias
        self._signs_in = unpack_signs(matrix.signs_in, n)
        self._signs_out = unpack_signs(matrix.signs_out, m)
        self._scales = matrix.scales.astype(np.float32) * np.float32(matrix.gain)
        self._left: F32 | None = None
        self._right: F32 | None = None
        if matrix.rank > 0:
            L, R = matrix.low_rank()
            self._left, self._right = np.ascontiguousarray(L.T), R

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs."""
        return self.matrix.shape

    def __call__(self, x: F32) -> F32:
        """Map (..., n) float32 to (..., m) float32."""
        m, n = self.shape
        z = np.ascontiguousarray(x, np.float32).reshape(-1, n)
        if self._signs_in is not None:
            z = hadamard_transform(z * self._signs_in)
        y = self._vector(z[0])[None] if z.shape[0] == 1 else self._tiles(z)
        if self._left is not None and self._right is not None:
            y += (z @ self._right.T) @ self._left
        if self._signs_out is not None:
            y = hadamard_transform(y, transpose=True)
            y *= self._signs_out
        if self.bias is not None:
            y += self.bias
        return y.reshape(*x.shape[:-1], m)

    def _vector(self, x: F32) -> F32:
        """Q times one vector f32 (n,), from the codes: f32 (m,)."""
        matrix, kernels = self.matrix, get_kernels()
        m, n = self.shape
        if matrix.codebook == "none":
            return np.zeros(m, np.float32)
        if matrix.codebook not in LATTICE:
            table = levels(matrix.codebook, matrix.bits)
            return kernels.matvec_levels(
                matrix.planes[0], matrix.bits, table, self._scales, matrix.group_size, x
            )
        x = np.pad(x, (0, -n % 8))
        first, *rest = matrix.planes
        if matrix.codebook == "e8p":
            y = kernels.matvec_e8p(first, x)
        elif matrix.codebook == "e8p-rvq3":
            y = kernels.matvec_e8p_rvq3(first, rest[0], RESIDUAL_SCALE["e8p-rvq3"], x)
        else:
            y = kernels.matvec_e8p_rvq4(first, rest[0], RESIDUAL_SCALE["e8p-rvq4"], x)
        y *= self._scales[:, 0]
        return y

    def _tiles(self, z: F32) -> F32:
        """Q times several vectors f32 (T, n), a tile of decoded rows at a time: f32 (T, m)."""
        m = self.shape[0]
        y = np.zeros((z.shape[0], m), np.float32)
        if self.matrix.codebook == "none":
            return y
        for start in range(0, m, TILE_ROWS):
            rows = slice(start, min(start + TILE_ROWS, m))
            np.matmul(z, self.matrix.rows(rows).T, out=y[:, rows])
        return y


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
