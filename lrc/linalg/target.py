"""The regression target of a matrix when both the original's and the student's inputs are known."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from numpy.typing import NDArray


def regression_target(
    W: NDArray[np.float32],
    C: NDArray[np.float64],
    cholesky: NDArray[np.float64],
    mix: float,
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
    WC = W.astype(np.float64) @ C
    solved = scipy.linalg.cho_solve((cholesky, True), WC.T, check_finite=False).T
    target: NDArray[np.float32] = ((1.0 - mix) * W + mix * solved).astype(np.float32)
    return target


def residual_correction(
    D: NDArray[np.floating], H: NDArray[np.floating], ridge: float
) -> NDArray[np.float32]:
    """D (H + ridge diag(H))^{-1}, float32 (m, n): what a layer can add to close the gap d.

    ``argmin_B E||d - B z||^2`` for the difference d of the original's and the student's residual
    streams, with D = E[d z^T] (m, n) and H = E[z z^T] (n, n). The ridge keeps quiet directions,
    where there is little to see and much noise, from growing. Cost n^3/3 + 2 m n^2.
    """
    damped = np.array(H, np.float64)
    diagonal = np.diag(damped).copy()
    damped[np.diag_indices_from(damped)] += np.where(diagonal > 0, ridge * diagonal, 1.0)
    solved: NDArray[np.float64] = scipy.linalg.solve(
        damped, D.T, assume_a="pos", overwrite_a=True, check_finite=False
    )
    return solved.T.astype(np.float32)
