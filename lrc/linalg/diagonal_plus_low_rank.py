"""Second moments of fewer tokens than inputs: H = diag(d) + V^T diag(s) V, never formed.

Where k tokens see n inputs and k is far below n, H is what they span, and what damping adds to
its diagonal. Kept so, it takes 4 k n bytes instead of 4 n^2, and so does its block LDL factor,
whose part below the diagonal is semiseparable: row j, column k of it is V_j^T G_k.
Source: Schur complements by the Woodbury identity, as in the update of a Kalman filter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
import scipy.linalg
from numpy.typing import NDArray
from scipy.linalg import blas

from lrc.base.threads import chunks
from lrc.linalg.factor import absorbed, block_trace, times_inverse

_Real = TypeVar("_Real", np.float32, np.float64)

#: Columns that are eliminated together.
_WIDTH = 256
#: Columns that are converted to a wider dtype together.
_CHUNK_COLUMNS = 4096


@dataclass(frozen=True)
class DiagonalPlusLowRank:
    """The symmetric matrix H = diag(d) + V^T diag(s) V.

    ``diagonal`` d float64 (n,); ``rows`` V float32 (k, n); ``signs`` s float32 (k,), each 1 or -1.
    Products with it are in the dtype of the other factor, and cost 4 k n a vector; none makes a
    matrix of n x n. Memory 4 k n bytes.
    """

    diagonal: NDArray[np.float64]
    rows: NDArray[np.float32]
    signs: NDArray[np.float32]

    __array_ufunc__ = None  # a NumPy array leaves its products with it to __rmatmul__

    def __len__(self) -> int:
        return len(self.diagonal)

    @property
    def shape(self) -> tuple[int, int]:
        """(n, n)."""
        return len(self), len(self)

    def __rmatmul__(self, A: NDArray[_Real]) -> NDArray[_Real]:
        """A H for A (m, n)."""
        cuts = chunks(len(self), _CHUNK_COLUMNS)
        parts = np.zeros((len(A), len(self.rows)), A.dtype)
        for columns in cuts:
            parts += A[:, columns] @ self.rows[:, columns].T.astype(A.dtype, copy=False)
        parts *= self.signs
        result = A * self.diagonal.astype(A.dtype)
        for columns in cuts:
            result[:, columns] += parts @ self.rows[:, columns].astype(A.dtype, copy=False)
        return result

    def __matmul__(self, B: NDArray[_Real]) -> NDArray[_Real]:
        """H B for B (n, r)."""
        return self.__rmatmul__(B.T).T

    def energy(self, E: NDArray[np.floating]) -> float:
        """tr(E H E^T) for E (m, n). Cost 2 m n k."""
        parts = np.zeros((len(E), len(self.rows)), E.dtype)
        for columns in chunks(len(self), _CHUNK_COLUMNS):
            parts += E[:, columns] @ self.rows[:, columns].T.astype(E.dtype, copy=False)
        by_rows = np.einsum("mk,mk->k", parts, parts, dtype=np.float64) @ self.signs
        by_columns = np.einsum("mn,mn->n", E, E, dtype=np.float64) @ self.diagonal
        return float(by_rows + by_columns)

    def diag(self) -> NDArray[np.float64]:
        """The diagonal of H, float64 (n,)."""
        result = self.diagonal.copy()
        for sign, row in zip(self.signs, self.rows, strict=True):
            result += sign * np.square(row, dtype=np.float64)
        return result

    def block(self, columns: slice) -> NDArray[np.float32]:
        """Rows and columns ``columns`` of H, float32 (w, w)."""
        part = self.rows[:, columns]
        block = np.asarray((part.T * self.signs) @ part, np.float32)
        block[np.diag_indices_from(block)] += self.diagonal[columns].astype(np.float32)
        return block

    def with_diagonal(self, added: NDArray[np.float64]) -> DiagonalPlusLowRank:
        """H + diag(``added``); V is shared."""
        return DiagonalPlusLowRank(self.diagonal + added, self.rows, self.signs)


#: A second moment (n, n) as solvers read it.
Moment: TypeAlias = NDArray[np.floating] | DiagonalPlusLowRank


def dense_moment(H: Moment) -> NDArray[np.floating]:
    """H as an array (n, n): itself, or a float32 one."""
    return H if isinstance(H, np.ndarray) else H.block(slice(None))


def as_dtype(H: Moment, dtype: np.dtype[np.floating]) -> Moment:
    """H for products in ``dtype``: an array is converted, the other form follows its factor."""
    return H if isinstance(H, DiagonalPlusLowRank) else H.astype(dtype, copy=False)


def diagonal_of(H: Moment) -> NDArray[np.floating]:
    """The diagonal of H, (n,)."""
    return H.diag() if isinstance(H, DiagonalPlusLowRank) else np.diag(H)


def block_of(H: Moment, columns: slice) -> NDArray[np.floating]:
    """Rows and columns ``columns`` of H."""
    return H.block(columns) if isinstance(H, DiagonalPlusLowRank) else H[columns, columns]


def largest_size(H: Moment) -> float:
    """A bound of ||H||_F: itself, or the trace of a positive semidefinite H."""
    if isinstance(H, DiagonalPlusLowRank):
        return float(H.diag().sum())
    return float(np.linalg.norm(H))


@dataclass(frozen=True)
class LowRankFeedback:
    """Feedback of LDLQ: the strictly block-lower part of V^T G.

    ``rows`` V and ``gains`` G are float32 (k, n).
    """

    rows: NDArray[np.float32]
    gains: NDArray[np.float32]
    block_size: int

    def __len__(self) -> int:
        return int(self.rows.shape[1])

    def block(self, columns: slice) -> NDArray[np.float32]:
        """Rows and columns ``columns`` of it, which begin with a block; float32 (w, w)."""
        dense: NDArray[np.float32] = self.rows[:, columns].T @ self.gains[:, columns]
        number = np.arange(len(dense)) // self.block_size
        dense[number[:, None] <= number] = 0.0
        return dense

    def coarser(self, wanted: int) -> LowRankFeedback:
        """Feedback of ``wanted`` columns at a time, a multiple of its block size."""
        if wanted == self.block_size:
            return self
        gains = np.empty_like(self.gains)
        for columns in chunks(len(self), wanted):
            corner = self.block(columns) + np.eye(columns.stop - columns.start, dtype=np.float32)
            gains[:, columns] = times_inverse(self.gains[:, columns], corner)
        return LowRankFeedback(self.rows, gains, wanted)


def block_ldl(H: DiagonalPlusLowRank, block_size: int) -> tuple[LowRankFeedback, float]:
    """Feedback of the block LDL of a positive definite H = U D U^T, and tr(D).

    With M the matrix of size k such that the Schur complement of the columns that are eliminated
    is ``diag(d) + V^T M V`` on the others, those of a block have D = d + V_i^T M V_i and
    G_i = M V_i D^{-1}, and M loses M V_i D^{-1} V_i^T M. It starts as diag(s).

    Raises
    ------
    numpy.linalg.LinAlgError
        H is not positive definite.

    Notes
    -----
    Law: V^T G below the diagonal is the unit factor of :func:`lrc.linalg.factor.block_ldl`, to
    float32 rounding. M is float64. Cost 3 k^2 n; memory 8 k^2 + 4 k n bytes beside H.
    """
    width = max(_WIDTH // block_size, 1) * block_size
    inner = np.asfortranarray(np.diag(H.signs.astype(np.float64)))
    gains = np.empty_like(H.rows)
    loss = 0.0
    for columns in chunks(len(H), width):
        part = np.asfortranarray(H.rows[:, columns], np.float64)
        through = blas.dsymm(1.0, inner, part, lower=1)
        schur = part.T @ through
        schur[np.diag_indices_from(schur)] += H.diagonal[columns]
        corner = scipy.linalg.cholesky(schur, lower=True, check_finite=False)
        # The transpose of C^{-1} (M V)^T, so that M loses its product with itself.
        half = blas.dtrsm(1.0, corner, through, side=1, lower=1, trans_a=1, overwrite_b=1)
        inner = blas.dsyrk(-1.0, half, beta=1.0, c=inner, lower=1, overwrite_c=1)
        for own in chunks(half.shape[1], block_size):
            at = slice(columns.start + own.start, columns.start + own.stop)
            gains[:, at] = times_inverse(half[:, own], corner[own, own])
        loss += block_trace(corner, block_size)
    return LowRankFeedback(H.rows, gains, block_size), loss


def regression_on_rows(B: NDArray[np.floating], H: DiagonalPlusLowRank) -> NDArray[np.float32]:
    """B V H^{-1} for B (m, k), float32 (m, n); d must be positive and all signs 1.

    By V H^{-1} = (I + V d^{-1} V^T)^{-1} V d^{-1}. Cost k^2 n + k^3/3 + 2 m k (k + n).
    """
    gram = np.eye(len(H.rows), order="F")
    for columns in chunks(len(H), _WIDTH):
        part = np.asfortranarray(H.rows[:, columns], np.float64)
        part /= np.sqrt(H.diagonal[columns])
        gram = blas.dsyrk(1.0, part, beta=1.0, c=gram, lower=1, overwrite_c=1)
    factor = scipy.linalg.cho_factor(gram, lower=True, overwrite_a=True, check_finite=False)
    solved = scipy.linalg.cho_solve(factor, np.asarray(B, np.float64).T, check_finite=False).T
    result: NDArray[np.float32] = solved.astype(np.float32) @ H.rows
    result /= H.diagonal.astype(np.float32)
    return result


def schur_complement(
    H: DiagonalPlusLowRank, R: NDArray[np.floating], *, floor: float = 1e-8
) -> DiagonalPlusLowRank:
    """:func:`lrc.linalg.factor.schur_complement` in this form: r rows more, of sign -1."""
    wide = np.asarray(R, np.float64)
    taken = absorbed(wide @ H, wide, floor).astype(np.float32)
    signs = np.concatenate([H.signs, -np.ones(len(taken), np.float32)])
    return DiagonalPlusLowRank(H.diagonal, np.concatenate([H.rows, taken]), signs)
