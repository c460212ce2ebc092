"""What errors of L R are weighed by, of all that is known of a site's inputs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc.errors import SpecError
from lrc.spec import FISHER

F64 = NDArray[np.float64]


def needs_magnitudes(statistic: str) -> bool:
    """Whether a statistic is not known from second moments alone."""
    return statistic.startswith("magnitude")


def weighting_diagonal(
    statistic: str,
    squares: F64,
    magnitudes: F64 | None = None,
    importances: F64 | None = None,
) -> F64 | None:
    """The diagonal (n,) of S in tr(E S E^T), by the name of a statistic; None where S is H.

    Parameters
    ----------
    statistic : str
        One of :data:`lrc.spec.STATISTICS`.
    squares : float64 array, shape (n,)
        E[z_i^2] of each input, the diagonal of H.
    magnitudes : float64 array, shape (n,), optional
        E|z_i|, which only the statistics of magnitudes look at.
    importances : float64 array, shape (n,), optional
        Fisher information of the columns of W, E[sum_j g_ji^2] of the gradient g of W, which only
        the statistics "fisher" look at.

    Raises
    ------
    SpecError
        The statistic needs what is not given.

    Notes
    -----
    ASVD (arXiv 2312.05821) scales input i by (E|z_i|)^(1/2), whose square is "magnitude"; L2QER
    (arXiv 2402.02446) by E|z_i|; QERA's approximation (arXiv 2410.06040) by E[z_i^2]^(1/2); FWSVD
    (arXiv 2207.00112) by the root of the importance. A
    weight of 0 lets the column of a dead input go; where all are dead the identity stands for them.

    Examples
    --------
    >>> weighting_diagonal("rms", np.array([4.0, 1.0])).tolist()
    [4.0, 1.0]
    >>> weighting_diagonal("moment", np.array([4.0, 1.0])) is None
    True
    """
    if statistic == "moment":
        return None
    if statistic == "identity":
        return np.ones_like(squares)
    if statistic == "rms":
        return _alive(squares)
    if statistic in FISHER:
        if importances is None:
            raise SpecError(
                f"statistic {statistic} needs the Fisher information of W's columns; give "
                "importances, or use statistic rms"
            )
        return _alive(importances)
    if magnitudes is None:
        raise SpecError(
            f"statistic {statistic} needs the mean magnitude of each input, E|z|, beside H; give "
            "magnitudes, or use statistic rms"
        )
    return _alive(magnitudes if statistic == "magnitude" else magnitudes**2)


def _alive(diagonal: F64) -> F64:
    return diagonal if diagonal.any() else np.ones_like(diagonal)
