"""The regression target of a matrix when both the original's and the student's inputs are known."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from lrc.base.threads import chunks, ordered_map

_CHUNK_ROWS = 512


def regression_target(
    W: NDArray[np.float32],
    C: NDArray[np.float64],
    cholesky: NDArray[np.float64],
    mix: float,
    threads: int = 1,
) -> NDArray[np.float32]:
    """(1 - mix) W + mix W C H^{-1}, float32 (m, n).

    ``argmin_B E||W x - B z||^2 = W C H^{-1}`` is the matrix that best repeats the original's
    outputs W x from the compressed prefix's inputs z. In full it chases noise, so it is mixed.

    Parameters
    ----------
    W : float32 array, shape (m, n)
    C : float64 array, shape (n, n)
        E[x z^T] plus the damping that H carries, so that C = H gives W for every ``mix``.
    cholesky : float64 array, shape (n, n)
        Lower factor of the damped H = E[z z^T], in the basis of W and C.
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
        WC = W[rows].astype(np.float64) @ C
        solved = scipy.linalg.cho_solve(
            (cholesky, True), WC.T, overwrite_b=True, check_finite=False
        ).T
        target[rows] = (1.0 - mix) * W[rows] + mix * solved

    for _ in ordered_map(part, chunks(len(W), _CHUNK_ROWS), threads):
        pass
    return target


def residual_correction(
    work: NDArray[np.float64], H: NDArray[np.floating], ridge: float
) -> NDArray[np.float32]:
    """D (H + ridge diag(H))^{-1}, float32 (m, n): what a layer can add to close the gap d.

    ``argmin_B E||d - B z||^2`` for the difference d of the original's and the student's residual
    streams, with D = E[d z^T] (m, n), given in ``work``, which is overwritten, and
    H = E[z z^T] (n, n). The ridge keeps quiet directions,
    where there is little to see and much noise, from growing. Cost n^3/3 + 2 m n^2.
    """
    damped = np.array(H, np.float64)
    diagonal = np.diag(damped).copy()
    damped[np.diag_indices_from(damped)] += np.where(diagonal > 0, ridge * diagonal, 1.0)
    # The transpose is laid out as LAPACK wants it, so nothing is copied.
    factor = scipy.linalg.cho_factor(damped.T, lower=True, overwrite_a=True, check_finite=False)
    solved: NDArray[np.float64] = scipy.linalg.cho_solve(
        factor, work.T, overwrite_b=True, check_finite=False
    )
    return solved.T.astype(np.float32)
