"""The regression target of a matrix when both the original's and the student's inputs are known."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from lrc.base.threads import chunks, ordered_map
from lrc.linalg.precision import is_wide

_CHUNK_ROWS = 512


def regression_target(
    W: NDArray[np.float32],
    C: NDArray[np.floating],
    cholesky: NDArray[np.floating],
    mix: float,
    threads: int = 1,
) -> NDArray[np.float32]:
    """(1 - mix) W + mix W C H^{-1}, float32 (m, n).

    ``argmin_B E||W x - B z||^2 = W C H^{-1}`` is the matrix that best repeats the original's
    outputs W x from the compressed prefix's inputs z. In full it chases noise, so it is mixed.

    Parameters
    ----------
    W : float32 array, shape (m, n)
    C : float64 or float32 array, shape (n, n)
        E[x z^T] plus the damping that H carries, so that C = H gives W for every ``mix``.
    cholesky : array, shape (n, n), of the dtype of C
        Lower factor of the damped H = E[z z^T], in the basis of W and C. Products are in its dtype.
    mix : float
        In [0, 1].

    Notes
    -----
    Cost 4 m n^2. Source: regression of the original's features on the student's, the linear
    case of distillation with teacher and student inputs (Lillama, arXiv 2412.16719).
    """
    if mix == 0.0:
        return W
    target = np.empty_like(W)

    def part(rows: slice) -> None:
        WC = W[rows].astype(C.dtype, copy=False) @ C
        solved = scipy.linalg.cho_solve(
            (cholesky, True), WC.T, overwrite_b=True, check_finite=False
        ).T
        target[rows] = (1.0 - mix) * W[rows] + mix * solved

    for _ in ordered_map(part, chunks(len(W), _CHUNK_ROWS), threads):
        pass
    return target


def regression_move(
    work: NDArray[np.floating], cholesky: NDArray[np.floating]
) -> NDArray[np.floating]:
    """(C - H) H^{-1} (n, n), from C - H in ``work``, which is overwritten, and H's lower factor.

    Pays where the matrices of a site have more rows than columns. Cost 2 n^3.
    """
    for rows in chunks(len(work), _CHUNK_ROWS):
        work[rows] = scipy.linalg.cho_solve((cholesky, True), work[rows].T, check_finite=False).T
    return work


def moved_target(
    W: NDArray[np.float32],
    move: NDArray[np.floating],
    cholesky: NDArray[np.floating] | None,
    mix: float,
    threads: int = 1,
) -> NDArray[np.float32]:
    """:func:`regression_target` as W + mix W (C - H) H^{-1}: float32 rounds the move alone, not W.

    ``move`` is C - H with H's lower factor ``cholesky``, or with None what :func:`regression_move`
    makes of them. Cost 4 m n^2, or 2 m n^2.
    """
    target = np.empty_like(W)

    def part(rows: slice) -> None:
        moved = W[rows] @ move
        if cholesky is not None:
            moved = scipy.linalg.cho_solve((cholesky, True), moved.T, check_finite=False).T
        target[rows] = W[rows] + np.float32(mix) * moved

    for _ in ordered_map(part, chunks(len(W), _CHUNK_ROWS), threads):
        pass
    return target


def residual_correction(
    work: NDArray[np.floating], H: NDArray[np.floating], ridge: float, threads: int = 1
) -> NDArray[np.float32]:
    """D (H + ridge diag(H))^{-1}, float32 (m, n): what a layer can add to close the gap d.

    ``argmin_B E||d - B z||^2`` for the difference d of the original's and the student's residual
    streams, with D = E[d z^T] (m, n), given in ``work``, which is overwritten, and
    H = E[z z^T] (n, n). The ridge keeps quiet directions,
    where there is little to see and much noise, from growing. In the dtype of ``work``. Cost
    n^3/3 + 2 m n^2.
    """
    damped = np.array(H, work.dtype)
    diagonal = np.diag(damped).copy()
    damped[np.diag_indices_from(damped)] += np.where(diagonal > 0, ridge * diagonal, 1.0)
    # The transpose is laid out as LAPACK wants it, so nothing is copied.
    factor = scipy.linalg.cho_factor(damped.T, lower=True, overwrite_a=True, check_finite=False)
    if not is_wide(len(H)):  # all columns at once: what small models do stays as it is
        solved = scipy.linalg.cho_solve(factor, work.T, overwrite_b=True, check_finite=False)
        return np.asarray(solved.T, np.float32)

    def part(rows: slice) -> None:
        work[rows] = scipy.linalg.cho_solve(factor, work[rows].T, check_finite=False).T

    for _ in ordered_map(part, chunks(len(work), _CHUNK_ROWS), threads):
        pass
    return np.asarray(work, np.float32)
