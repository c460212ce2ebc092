"""Largest singular values: upper bounds that hold in spite of rounding, and estimates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import scipy.linalg
import scipy.sparse.linalg
from numpy.typing import NDArray

from lrc.base.threads import chunks
from lrc.linalg.diagonal_plus_low_rank import Moment

F64 = NDArray[np.float64]

#: Unit roundoff of float64.
_U = float(np.finfo(np.float64).eps) / 2
#: How far above an estimate of the largest eigenvalue a bound is tried first.
_MARGIN = 1e-3
#: Orders up to which eigenvalues are computed outright.
_SMALL = 64
_CHUNK_ROWS = 1024


def spectral_bound(pieces: Iterable[F64], order: int, summed: int) -> float:
    """An upper bound of ||E||_2 that holds for the exact E, not for its rounding alone.

    Parameters
    ----------
    pieces : iterable of float64 arrays, each (k, order)
        E, or its transpose, cut by rows; each row the correctly rounded difference of two numbers,
        or exact. Not modified.
    order : int
        The smaller side of E is the cheaper one.
    summed : int
        Rows of all pieces.

    Returns
    -------
    float
        At most a few thousandths above ||E||_2 where rounding allows it, never above ||E||_F by
        more than rounding.

    Notes
    -----
    Theorem: ||E||_2 <= the result. Proof. Let F be the array that the pieces hold, u = 2^-53 and
    g(k) = k u / (1 - k u). Each entry of F is that of E times 1 + d with abs(d) <= u, so
    ||E||_2 <= ||F||_2 + g(1) ||F||_F. Let G be the computed F^T F. In whatever order products are
    summed, abs(G - F^T F) <= g(N) abs(F)^T abs(F) entry by entry, N = ``summed``, and the norm of
    that is at most g(N) ||F||_F^2, while ||F||_F^2 = tr(F^T F) <= tr(G) / (1 - g(N)). So
    ||F||_2^2 <= lambda(G) + g(N) / (1 - g(N)) tr(G). Let A be the computed t I - G, whose diagonal
    has errors of at most u max(t, tr(G)). Where a Cholesky factorisation of A runs to its end,
    R^T R = A + B with abs(B) <= g(d + 1) abs(R)^T abs(R), d = ``order`` (Higham, Accuracy and
    Stability of Numerical Algorithms, 2nd ed., theorem 10.3), so that no eigenvalue of A is below
    -g(d + 1) / (1 - g(d + 1)) tr(A) (Rump, Verification of positive definiteness, BIT 46, 2006),
    and lambda(G) <= t + u max(t, tr(G)) + that. Twice the order stands for d + 1, as blocked
    factorisations may multiply by rounded reciprocals. What is returned adds these terms up and is
    raised by 16 u for the operations that do so. Where no t below tr(G) serves, lambda(G) <= tr(G)
    does, for G is positive semidefinite to the same errors. Underflow is not looked at: errors
    below 1e-150 are nothing.

    Cost order^2 summed multiplications and additions, and order^3 / 3 a trial.
    """
    G = np.zeros((order, order))
    for piece in pieces:
        G += piece.T @ piece
    trace = float(np.trace(G))
    if trace <= 0:
        return 0.0
    largest, factor_slack = _certified(G, trace)
    squared = largest + _U * max(largest, trace) + factor_slack + _gamma(2 * summed) * trace
    bound = np.sqrt(squared) + 2 * _U * np.sqrt(trace)
    return float(bound * (1 + 16 * _U))


def gram_pieces(E: F64, order: int) -> Iterator[F64]:
    """Some rows of E, or all of it transposed, cut for :func:`spectral_bound`, ``order`` wide."""
    work = E if E.shape[1] == order else E.T
    for part in chunks(len(work), _CHUNK_ROWS):
        yield work[part]


def _certified(G: F64, trace: float) -> tuple[float, float]:
    """A number that no eigenvalue of G exceeds, but for a slack, and the slack."""
    order = len(G)
    margin, estimate = _MARGIN, largest_eigenvalue(G)
    while 0 < (t := estimate * (1 + margin)) < trace:
        A = -G
        A[np.diag_indices(order)] += t
        gamma = _gamma(2 * order)
        slack = gamma / (1 - gamma) * float(np.trace(A))
        try:
            scipy.linalg.cholesky(A, overwrite_a=True, check_finite=False)
        except scipy.linalg.LinAlgError:
            margin *= 4
            continue
        return t, slack
    return trace, 0.0


def _gamma(operations: int) -> float:
    return operations * _U / (1 - operations * _U)


def largest_eigenvalue(H: Moment) -> float:
    """About the largest eigenvalue of a positive semidefinite H (n, n), from below; by Lanczos."""
    n = len(H)
    if n <= _SMALL:
        dense = np.eye(n) @ H
        return float(max(np.linalg.eigvalsh(dense)[-1], 0.0))

    def times(v: NDArray[np.floating]) -> NDArray[np.floating]:
        product: NDArray[np.floating] = H @ v.reshape(n, 1)
        return product[:, 0]

    operator = scipy.sparse.linalg.LinearOperator((n, n), matvec=times, dtype=np.float64)
    start = np.random.default_rng(1).standard_normal(n)
    try:
        found = scipy.sparse.linalg.eigsh(
            operator, k=1, v0=start, tol=1e-4, return_eigenvectors=False
        )
    except scipy.sparse.linalg.ArpackNoConvergence as error:
        found = (
            error.eigenvalues if len(error.eigenvalues) else times(start) @ start / start @ start
        )
    return max(float(np.max(found)), 0.0)
