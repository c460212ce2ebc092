"""The tolerance policy: every bound follows from dtype, size and condition.

Integers, codes, packed words and file bytes are compared exactly and have no entry here.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike, NDArray

#: Constant for products, orthogonal transforms and Cholesky-type factors.
C_STABLE = 8.0
#: Constant once a triangular solve lies on the path.
C_SOLVE = 50.0


def eps(dtype: DTypeLike) -> float:
    """Unit round-off spacing of ``dtype``."""
    return float(np.finfo(np.dtype(dtype)).eps)


def factor_bound(n: int, dtype: DTypeLike, *, solve: bool = False, cond: float = 1.0) -> float:
    """Bound of ``||A - factors|| / ||A||`` for size ``n``: ``c * n * eps * sqrt(cond)``.

    Pass ``cond`` = cond(H) when the quantity went through H^(1/2), cond(H)**2 through H^-1.
    """
    return (C_SOLVE if solve else C_STABLE) * max(n, 1) * eps(dtype) * float(np.sqrt(cond))


def sum_bound(n: int, dtype: DTypeLike, magnitude: float = 1.0) -> float:
    """Absolute bound of an ``n``-term sum whose terms' magnitudes add up like ``magnitude``."""
    return C_STABLE * float(np.sqrt(max(n, 1))) * eps(dtype) * magnitude


def assert_within(error: float, bound: float, what: str = "error") -> None:
    """Raise AssertionError with the ratio error/bound when the bound is broken."""
    if not error <= bound:
        raise AssertionError(
            f"{what} {error:.3e} exceeds its bound {bound:.3e} ({error / bound:.2f}x)"
        )


def relative_difference(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """``||a - b|| / ||b||`` (Frobenius, float64), or ``||a||`` when ``b`` is zero."""
    difference = np.linalg.norm(np.asarray(a, np.float64) - np.asarray(b, np.float64))
    scale = np.linalg.norm(np.asarray(b, np.float64))
    return float(difference / scale) if scale > 0 else float(difference)
