"""Damping, Cholesky and the block LDL factorisation of a second moment H."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from lrc.base.threads import chunks
from lrc.errors import NumericalError
from lrc.linalg.incoherence import symmetrise

_Real = TypeVar("_Real", np.float32, np.float64)
_Made = TypeVar("_Made")
#: Rows of a large matrix that are worked on together.
_CHUNK_ROWS = 512

#: Damping grows by this factor at each retry, from at least ``_FIRST_RETRY``.
_GROWTH = 10.0
_FIRST_RETRY = 1e-6
#: The last adds a tenth of the diagonal: what that does not repair is no second moment.
_MAX_RETRIES = 6


@dataclass(frozen=True)
class Factored:
    """Lower Cholesky factor of ``H + diag(shift)``.

    ``shift`` float64 (n,), about ``ridge * diag(H)``, is zero unless retries were due.
    """

    cholesky: NDArray[np.floating]
    shift: NDArray[np.float64]
    ridge: float
    retries: int


def damping_shift(H: NDArray[np.floating], damping: float) -> NDArray[np.float64]:
    """What damping adds to the diagonal of H: ``damping * diag(H)``, float64 (n,).

    Equilibrated: each channel is damped in proportion to its own energy, so a few channels of
    huge activations do not swamp the others as a share of the mean diagonal would. A channel
    that is never active gets the smallest positive diagonal entry (1 if all are zero), so
    that it cannot make H singular.

    Raises
    ------
    NumericalError
        If H is not finite.
    """
    if not np.isfinite(H).all():
        raise NumericalError(f"second moment of shape {H.shape} has entries that are not finite")
    return shift_of(np.diag(H).astype(np.float64), damping)


def shift_of(diagonal: NDArray[np.float64], damping: float) -> NDArray[np.float64]:
    """:func:`damping_shift` of an H that is finite, from its diagonal (n,)."""
    alive = diagonal > 0
    floor = float(diagonal[alive].min()) if alive.any() else 1.0
    return np.where(alive, damping * diagonal, floor)


def factor(H: NDArray[np.floating], device: str = "cpu") -> Factored:
    """Lower Cholesky factor, adding to the diagonal until there is one.

    H (n, n), symmetric, is not modified; it should carry its damping already. The factor has its
    dtype, float64 or float32. On failure
    a share of the diagonal is added, from 1e-6 in factors of ten to 0.1, six times at most.

    Raises
    ------
    NumericalError
        If H is not finite, or still not positive definite after the last increase.

    Notes
    -----
    Cost n^3/3 a try.
    """

    def cholesky(added: NDArray[np.float64]) -> NDArray[np.floating]:
        matrix = H
        if added.any():
            matrix = H.copy()
            matrix[np.diag_indices_from(matrix)] += added
        if device != "cpu":
            from lrc.linalg import cuda

            return cuda.cholesky(matrix)
        lower: NDArray[np.floating] = scipy.linalg.cholesky(matrix.T, lower=True)
        return lower

    found = raising_the_diagonal(cholesky, np.diag(H).astype(np.float64))
    return Factored(found.made, found.shift, found.ridge, found.retries)


@dataclass(frozen=True)
class Raised(Generic[_Made]):
    """What was ``made`` once ``shift`` float64 (n,), about ``ridge * diag(H)``, was added."""

    made: _Made
    shift: NDArray[np.float64]
    ridge: float
    retries: int


def raising_the_diagonal(
    make: Callable[[NDArray[np.float64]], _Made], diagonal: NDArray[np.float64]
) -> Raised[_Made]:
    """Call ``make(shift)``, with more and more of the ``diagonal`` of H, until there is a factor.

    Raises
    ------
    NumericalError
        See :func:`factor`.
    """
    ridge = 0.0
    scale = np.maximum(diagonal, float(diagonal.max()) * _FIRST_RETRY)
    for retry in range(_MAX_RETRIES + 1):
        try:
            return Raised(make(ridge * scale), ridge * scale, ridge, retry)
        except np.linalg.LinAlgError:
            ridge = max(ridge * _GROWTH, _FIRST_RETRY)
        except ValueError as error:
            raise NumericalError(f"{_named(diagonal)} is not finite") from error
    raise NumericalError(
        f"{_named(diagonal)} is not positive definite after {_MAX_RETRIES} "
        f"increases of the damping (last {ridge / _GROWTH:.1e}); use more calibration tokens"
    )


def _named(diagonal: NDArray[np.float64]) -> str:
    return f"second moment of shape {(len(diagonal), len(diagonal))}"


@dataclass(frozen=True)
class BlockLDL:
    """H = unit @ D @ unit^T with ``unit`` unit block lower triangular and D block diagonal.

    ``unit`` is (n, n); ``diagonal`` is (n/b, b, b), a ragged last block padded by identity.
    """

    unit: NDArray[np.float64]
    diagonal: NDArray[np.float64]
    block_size: int


def block_ldl(cholesky: NDArray[np.floating], block_size: int) -> BlockLDL:
    """Block LDL of H from its lower Cholesky factor C, H = C C^T.

    D_i = C_ii C_ii^T and unit[:, i] = C[:, i] C_ii^{-1}; the last block may be ragged.
    Law: unit D unit^T = H to ``8 n eps``, diagonal blocks of ``unit`` are I. Cost n^2 b.
    """
    n = len(cholesky)
    count = -(-n // block_size)
    unit = np.zeros_like(cholesky)
    diagonal = np.broadcast_to(np.eye(block_size), (count, block_size, block_size)).copy()
    for i in range(count):
        a, b = i * block_size, min((i + 1) * block_size, n)
        corner = cholesky[a:b, a:b]
        unit[b:, a:b] = times_inverse(cholesky[b:, a:b], corner)
        unit[a:b, a:b] = np.eye(b - a)
        diagonal[i, : b - a, : b - a] = corner @ corner.T
    return BlockLDL(unit, diagonal, block_size)


def times_inverse(
    below: NDArray[np.floating], corner: NDArray[np.floating]
) -> NDArray[np.floating]:
    """``below @ corner^{-1}`` for a lower triangular corner, solved transposed."""
    solved: NDArray[np.floating] = scipy.linalg.solve_triangular(
        corner, below.T, lower=True, trans="T", check_finite=False
    ).T
    return solved


def feedback_matrix(cholesky: NDArray[np.floating], block_size: int) -> NDArray[np.float32]:
    """Strictly block-lower part of the unit factor, float32 (n, n): the feedback of LDLQ."""
    n = len(cholesky)
    feedback = np.zeros((n, n), np.float32)
    for a in range(0, n, block_size):
        z = min(a + block_size, n)
        feedback[z:, a:z] = times_inverse(cholesky[z:, a:z], cholesky[a:z, a:z])
    return feedback


def block_trace(cholesky: NDArray[np.floating], block_size: int) -> float:
    """tr(D) of the block LDL of H = C C^T, from C: what LDLQ multiplies squared errors by."""
    n = len(cholesky)
    corners = (cholesky[a : a + block_size, a : a + block_size] for a in range(0, n, block_size))
    return float(sum(np.square(corner, dtype=np.float64).sum() for corner in corners))


def coarser_feedback(
    feedback: NDArray[np.float32], block_size: int, wanted: int
) -> NDArray[np.float32]:
    """Feedback of ``wanted`` columns at a time from that of ``block_size``, which divides it.

    Law: that of the block LDL with the larger block. Cost n^2 ``wanted``.
    """
    if wanted == block_size:
        return feedback
    n = len(feedback)
    result = np.zeros_like(feedback)
    for a in range(0, n, wanted):
        z = min(a + wanted, n)
        corner = feedback[a:z, a:z] + np.eye(z - a, dtype=np.float32)
        result[z:, a:z] = times_inverse(feedback[z:, a:z], corner)
    return result


def schur_complement(
    H: NDArray[_Real], R: NDArray[np.floating], *, floor: float = 1e-8
) -> NDArray[_Real]:
    """H - H R^T (R H R^T)^{-1} R H: the metric of what a later refit of L cannot absorb.

    For any B, ``tr(B H' B^T) = min_L tr((B - L R) H (B - L R)^T)``; H' is symmetric, positive
    semidefinite and H' R^T = 0. H (n, n), float32 or float64 like the result, R (r, n). Products
    are float64, by blocks of rows. Cost 4 r n^2. Rows of R are brought to equal energy in H, and
    combinations of less than ``floor`` times the largest energy are left out: dependent rows, and
    rows that H does not see, are no special case.

    Source: variable projection; equals the "Hessian downdate" of CALDERA.
    """
    n = len(H)
    R64 = np.asarray(R, np.float64)
    RH = np.empty_like(R64)
    for rows in chunks(n, _CHUNK_ROWS):  # H is symmetric: its rows are its columns
        RH[:, rows] = R64 @ H[rows].T.astype(np.float64)
    half = absorbed(RH, R64, floor)
    result = np.empty_like(H)
    for rows in chunks(n, _CHUNK_ROWS):
        result[rows] = H[rows] - half[:, rows].T @ half
    symmetrise(result)
    return result


def absorbed(RH: NDArray[np.float64], R: NDArray[np.float64], floor: float) -> NDArray[np.float64]:
    """A (s, n) with A^T A = H R^T (R H R^T)^{-1} R H, from R H and R, (r, n); s at most r."""
    energy = np.einsum("ij,ij->i", RH, R)
    seen = energy > 0
    size = np.sqrt(energy[seen])[:, None]
    R, RH = R[seen] / size, RH[seen] / size
    gram = RH @ R.T
    values, vectors = np.linalg.eigh(0.5 * (gram + gram.T))
    keep = values > floor * values.max(initial=0.0)
    half: NDArray[np.float64] = (vectors[:, keep] / np.sqrt(values[keep])).T @ RH
    return half
