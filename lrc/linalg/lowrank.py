"""Rank-constrained regression: min over rank-r Z of tr((A - Z) H (A - Z)^T)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from lrc.errors import SpecError
from lrc.linalg.diagonal_plus_low_rank import DiagonalPlusLowRank, Moment, as_dtype
from lrc.linalg.precision import is_wide

#: Below this size a full eigendecomposition is as cheap as subspace iteration.
_DIRECT_SIZE = 256
_OVERSAMPLE = 16
_PASSES = 6
_CHUNK_ROWS = 512


@dataclass(frozen=True)
class LowRank:
    """L (m, r) with orthonormal columns and R (r, n); ``energies`` are the r captured ones."""

    L: NDArray[np.float64]
    R: NDArray[np.float64]
    energies: NDArray[np.float64]


def output_gram(A: NDArray[np.floating], H: Moment) -> NDArray[np.float64]:
    """A H A^T, symmetric float64 (m, m); its eigenvalues give the loss at every rank."""
    gram = np.asarray((A @ as_dtype(H, A.dtype)) @ A.T, np.float64)
    return 0.5 * (gram + gram.T)


def top_eigenvectors(
    S: Moment, rank: int, seed: int, device: str = "cpu"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Largest ``rank`` eigenpairs of a symmetric matrix, eigenvalues descending.

    Direct up to 256; else block subspace iteration (6 passes, 16 extra columns), fixed seed, whose
    products with a dense S are those of ``device``. They are float64, but float32 with a float32
    matrix from 4096 on, or one of low rank.
    """
    n = len(S)
    if isinstance(S, DiagonalPlusLowRank) or (
        is_wide(n) and S.dtype == np.float32 and device == "cpu"
    ):
        return _subspace_iteration(
            lambda V: np.asarray(S @ V.astype(np.float32), np.float64), n, rank, seed
        )
    wide = np.asarray(S, np.float64)
    if n <= _DIRECT_SIZE or rank + _OVERSAMPLE >= n // 2:
        values, vectors = scipy.linalg.eigh(
            wide, subset_by_index=(n - rank, n - 1), check_finite=False
        )
        if len(values) < rank:  # LAPACK's selection loses eigenvalues of tight clusters
            values, vectors = (part[..., n - rank :] for part in np.linalg.eigh(wide))
        return values[::-1], vectors[:, ::-1]
    if device != "cpu":
        from lrc.linalg import cuda

        return _subspace_iteration(cuda.times(S), n, rank, seed)
    return _subspace_iteration(lambda V: wide @ V, n, rank, seed)


def top_output_eigenvectors(
    A: NDArray[np.floating], H: Moment, rank: int, seed: int, device: str = "cpu"
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Largest ``rank`` eigenpairs of A H A^T, without forming it where m is large.

    Products are in the dtype of A, and with a dense H on ``device``; a pass costs
    (4 m n + 2 n^2)(rank + 16).
    """
    m = len(A)
    if m <= _DIRECT_SIZE or rank + _OVERSAMPLE >= m // 2:
        return top_eigenvectors(output_gram(A, H), rank, seed)
    if device != "cpu" and isinstance(H, np.ndarray):
        from lrc.linalg import cuda

        return _subspace_iteration(cuda.times_output_gram(A, H), m, rank, seed)
    metric = as_dtype(H, A.dtype)

    def apply(V: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(A @ (metric @ (A.T @ V.astype(A.dtype))), np.float64)

    return _subspace_iteration(apply, m, rank, seed)


def _subspace_iteration(
    apply: Callable[[NDArray[np.float64]], NDArray[np.float64]], n: int, rank: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Block subspace iteration for the symmetric operator ``apply`` of size n."""
    basis = np.random.default_rng(seed).standard_normal((n, rank + _OVERSAMPLE))
    for _ in range(_PASSES):
        basis, _ = np.linalg.qr(apply(basis))
    inner = basis.T @ apply(basis)
    values, vectors = np.linalg.eigh(0.5 * (inner + inner.T))
    order = np.argsort(values)[::-1][:rank]
    return values[order], basis @ vectors[:, order]


def rank_constrained_regression(
    A: NDArray[np.floating], H: Moment, rank: int, *, seed: int = 20261122, device: str = "cpu"
) -> LowRank:
    """Best rank-``rank`` approximation of A in the metric of H, without a root of H.

    L = U, the top eigenvectors of A H A^T, and R = U^T A: the same optimum as whitening with
    any square root S of H, truncating the SVD of A S and unwhitening, but with no inverse, so
    a singular H is no special case.

    Parameters
    ----------
    A : array, shape (m, n)
        Matrix to approximate.
    H : array, shape (n, n)
        Symmetric positive semidefinite. Not modified.
    rank : int
        ``0 <= rank <= min(m, n)``.

    Raises
    ------
    SpecError
        If ``rank`` is out of range.

    Notes
    -----
    Law: loss = sum of the eigenvalues of A H A^T after ``rank`` (Eckart-Young in the whitened
    space). Cost 2 m n^2 + 2 m^2 n plus the eigenvectors.

    Source: CALDERA, arXiv 2405.18886, the L, R update; the projector form is output PCA (LORD).
    """
    m, n = A.shape
    if not 0 <= rank <= min(m, n):
        raise SpecError(f"rank={rank} of a {m} x {n} matrix must lie in [0, {min(m, n)}]")
    if rank == 0:
        return LowRank(np.zeros((m, 0)), np.zeros((0, n)), np.zeros(0))
    energies, U = top_output_eigenvectors(A, H, rank, seed, device)
    R = _transposed_times(U, A)
    return LowRank(U, R, np.maximum(energies, 0.0))


def solve_left(A: NDArray[np.floating], H: Moment, R: NDArray[np.floating]) -> NDArray[np.float64]:
    """argmin_L tr((A - L R) H (A - L R)^T) = A H R^T (R H R^T)^{-1}; (m, r). Cost 2 r n (m + n).

    Dependent rows of R get the minimum-norm solution.
    """
    HRt = np.asarray(H @ R.T, np.float64)
    AHRt = np.concatenate([np.asarray(A[rows], np.float64) @ HRt for rows in _row_chunks(A)])
    return _right_solve(AHRt, np.asarray(R, np.float64) @ HRt)


def solve_right(A: NDArray[np.floating], L: NDArray[np.floating]) -> NDArray[np.float64]:
    """argmin_R of the same loss for positive definite H: (L^T L)^{-1} L^T A; H drops out."""
    L64 = np.asarray(L, np.float64)
    return _right_solve(_transposed_times(L64, A).T, L64.T @ L64).T


def _row_chunks(A: NDArray[np.floating]) -> list[slice]:
    """Rows worked on together, so that no float64 copy of all of a large A is made."""
    return [slice(i, i + _CHUNK_ROWS) for i in range(0, len(A), _CHUNK_ROWS)]


def _transposed_times(B: NDArray[np.float64], A: NDArray[np.floating]) -> NDArray[np.float64]:
    """B^T A in float64, (r, n), for B (m, r) and A (m, n)."""
    total = np.zeros((B.shape[1], A.shape[1]))
    for rows in _row_chunks(A):
        total += B[rows].T @ np.asarray(A[rows], np.float64)
    return total


def _right_solve(B: NDArray[np.float64], gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """B gram^{-1} by eigenvalues; directions below r eps of the largest are left out."""
    values, vectors = np.linalg.eigh(0.5 * (gram + gram.T))
    floor = len(gram) * np.finfo(np.float64).eps * float(values.max(initial=0.0))
    keep = values > floor
    V = vectors[:, keep]
    result: NDArray[np.float64] = ((B @ V) / values[keep]) @ V.T
    return result
