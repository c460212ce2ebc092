"""Matrices that a caller gives: checked, and converted where they are what they should be."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import scipy.linalg
from numpy.typing import ArrayLike, NDArray

from lrc.errors import NumericalError, SpecError
from lrc.linalg.incoherence import symmetrise
from lrc.linalg.lowrank import top_eigenvectors

_Real = TypeVar("_Real", np.float32, np.float64)
#: Moments are sums of float32 products, and errors are measured in float32.
_EPS = float(np.finfo(np.float32).eps)


def real_matrix(given: ArrayLike, name: str, dtype: type[_Real]) -> NDArray[_Real]:
    """``given`` as a matrix (m, n) of ``dtype`` with m, n >= 1; the array itself where it is one.

    Raises
    ------
    SpecError
        It is no matrix of real numbers.
    NumericalError
        It has values that are not finite, or too large for ``dtype``.
    """
    try:
        array: NDArray[Any] = np.asarray(given)
    except ValueError as error:
        raise SpecError(f"{name} is no array ({error}); expected a matrix (m, n)") from None
    if array.dtype.kind not in "fiu":
        raise SpecError(f"{name} has dtype {array.dtype}; expected a matrix of real numbers")
    if array.ndim != 2 or 0 in array.shape:
        raise SpecError(f"{name} has shape {array.shape}; expected a matrix (m, n) with m, n >= 1")
    if not np.isfinite(array).all():
        raise NumericalError(f"{name} of shape {array.shape} has values that are not finite")
    with np.errstate(over="ignore"):
        converted: NDArray[_Real] = np.ascontiguousarray(array, dtype)
    if not np.isfinite(converted).all():
        raise NumericalError(
            f"{name} reaches {float(np.abs(array).max()):.1e}, beyond {np.dtype(dtype)}; scale it"
        )
    return converted


def real_vector(given: ArrayLike, name: str, n: int) -> NDArray[np.float64]:
    """``given`` as float64 (n,).

    Raises
    ------
    SpecError
        It is no vector of ``n`` real numbers.
    NumericalError
        It has values that are not finite.
    """
    array: NDArray[Any] = np.asarray(given)
    if array.dtype.kind not in "fiu" or array.shape != (n,):
        raise SpecError(
            f"{name} has dtype {array.dtype} and shape {array.shape}; expected {n} real numbers"
        )
    vector: NDArray[np.float64] = real_matrix(array[None], name, np.float64)[0]
    return vector


def second_moment(given: ArrayLike, n: int, name: str = "H") -> NDArray[np.float64]:
    """A second moment E[z z^T] of ``n`` inputs as an own float64 (n, n), exactly symmetric.

    Rounding of float32 is let through: differences of up to ``n eps`` of the largest entry between
    H and its transpose, which are averaged out, and eigenvalues down to ``-n eps`` times the
    largest, which damping lifts.

    Raises
    ------
    SpecError
        It is no matrix of real numbers, or not (n, n).
    NumericalError
        It is not finite, not symmetric, or has a negative eigenvalue: no error could be
        measured with it.

    Notes
    -----
    Cost n^3/3 + O(n^2).
    """
    H = real_matrix(given, name, np.float64).copy()
    if H.shape != (n, n):
        side = "columns" if name == "H" else "rows"
        raise SpecError(f"{name} has shape {H.shape}; W with {n} {side} needs ({n}, {n})")
    largest, gap = float(np.abs(H).max()), float(np.abs(H - H.T).max())
    if gap > n * _EPS * largest:
        raise NumericalError(
            f"{name} differs from its transpose by {gap:.1e}, beside entries up to {largest:.1e}; "
            "expected a second moment E[z z^T], which is symmetric"
        )
    symmetrise(H)
    _check_semidefinite(H, name)
    return H


def _check_semidefinite(H: NDArray[np.float64], name: str) -> None:
    n = len(H)
    size = max(float(top_eigenvectors(H, 1, seed=n)[0][0]), float(np.diag(H).max()), 0.0)
    least_allowed = -n * _EPS * size
    try:
        scipy.linalg.cholesky(H - least_allowed * np.eye(n), lower=True, overwrite_a=True)
    except np.linalg.LinAlgError:
        # Rounding may have failed it: the eigenvalue itself decides.
        least = float(np.linalg.eigvalsh(H)[0])
        if least < least_allowed:
            raise NumericalError(
                f"{name} has the eigenvalue {least:.1e}, beside a largest of {size:.1e}; expected "
                "a second moment E[z z^T], which has none below 0: check how it was made"
            ) from None
