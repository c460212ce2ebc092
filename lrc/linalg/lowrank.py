"""Rank-constrained regression: min over rank-r Z of tr((A - Z) H (A - Z)^T)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from lrc.errors import SpecError

#: Below this size a full eigendecomposition is as cheap as subspace iteration.
_DIRECT_SIZE = 256
_OVERSAMPLE = 16
_PASSES = 6


@dataclass(frozen=True)
class LowRank:
    """L (m, r) with orthonormal columns and R (r, n); ``energies`` are the r captured ones."""

    L: NDArray[np.float64]
    R: NDArray[np.float64]
    energies: NDArray[np.float64]


def output_gram(A: NDArray[np.floating], H: NDArray[np.floating]) -> NDArray[np.float64]:
    """A H A^T, symmetric float64 (m, m); its eigenvalues give the loss at every rank."""
    gram = np.asarray((A @ H.astype(A.dtype, copy=False)) @ A.T, np.float64)
    return 0.5 * (gram + gram.T)


def top_eigenvectors(
    S: NDArray[np.float64], rank: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Largest ``rank`` eigenpairs of a symmetric matrix, eigenvalues descending.

    Direct up to 256; else block subspace iteration (6 passes, 16 extra columns), fixed seed.
    """
    n = len(S)
    if n <= _DIRECT_SIZE or rank + _OVERSAMPLE >= n // 2:
        values, vectors = scipy.linalg.eigh(
            S, subset_by_index=(n - rank, n - 1), check_finite=False
        )
        return values[::-1], vectors[:, ::-1]
    basis = np.random.default_rng(seed).standard_normal((n, rank + _OVERSAMPLE))
    for _ in range(_PASSES):
        basis, _ = np.linalg.qr(S @ basis)
    values, inner = np.linalg.eigh(basis.T @ S @ basis)
    order = np.argsort(values)[::-1][:rank]
    return values[order], basis @ inner[:, order]


def rank_constrained_regression(
    A: NDArray[np.floating], H: NDArray[np.floating], rank: int, *, seed: int = 20261122
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
    energies, U = top_eigenvectors(output_gram(A, H), rank, seed)
    return LowRank(U, U.T @ A, np.maximum(energies, 0.0))


def solve_left(
    A: NDArray[np.floating], H: NDArray[np.floating], R: NDArray[np.floating]
) -> NDArray[np.float64]:
    """argmin_L tr((A - L R) H (A - L R)^T) = A H R^T (R H R^T)^{-1}; (m, r). Cost 2 r n (m + n).

    Dependent rows of R get the minimum-norm solution.
    """
    HRt = np.asarray(H @ R.T, np.float64)
    return _right_solve(np.asarray(A, np.float64) @ HRt, np.asarray(R, np.float64) @ HRt)


def solve_right(A: NDArray[np.floating], L: NDArray[np.floating]) -> NDArray[np.float64]:
    """argmin_R of the same loss for positive definite H: (L^T L)^{-1} L^T A; H drops out."""
    L64 = np.asarray(L, np.float64)
    return _right_solve((L64.T @ np.asarray(A, np.float64)).T, L64.T @ L64).T


def _right_solve(B: NDArray[np.float64], gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """B gram^{-1} by eigenvalues; directions below r eps of the largest are left out."""
    values, vectors = np.linalg.eigh(0.5 * (gram + gram.T))
    floor = len(gram) * np.finfo(np.float64).eps * float(values.max(initial=0.0))
    keep = values > floor
    V = vectors[:, keep]
    result: NDArray[np.float64] = ((B @ V) / values[keep]) @ V.T
    return result
