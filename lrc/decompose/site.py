"""What all matrices that share an input share: the rotated, damped and factored moment."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.linalg.factor import damping_shift, factor, feedback_matrix, schur_complement
from lrc.linalg.incoherence import random_signs, rotate_columns, rotate_moment
from lrc.linalg.target import regression_target

#: The regression target always needs some damping.
_LEAST_TARGET_DAMPING = 1e-3


@dataclass(frozen=True)
class SiteMetric:
    """H in the basis where weights are rounded, normalised to mean diagonal 1.

    ``H`` float32 (n, n) is undamped: every error is measured with it. ``damped`` float64 (n, n)
    is H plus its damping. ``feedback`` float32 (n, n) drives LDLQ. ``cross`` is the damped
    E[x z^T] in the same basis, or None with one stream, and ``target_factor`` the Cholesky
    factor of the H damped alike. ``signs`` float32 (n,), None without rotation. ``damping``
    and ``retries`` go to the report.
    """

    H: NDArray[np.float32]
    damped: NDArray[np.float64]
    target_factor: NDArray[np.float64]
    feedback: NDArray[np.float32]
    cross: NDArray[np.float64] | None
    signs: NDArray[np.float32] | None
    damping: float
    retries: int
    block_size: int

    def target(self, W: NDArray[np.float32], mix: float) -> NDArray[np.float32]:
        """What to fit to W (columns already rotated) so that the compressed prefix is repaired."""
        if self.cross is None or mix == 0.0:
            return W
        return regression_target(W, self.cross, self.target_factor, mix)

    def downdated(self, R: NDArray[np.floating]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Metric of Q when L will be solved again for R: H' (n, n) undamped, and its feedback.

        The complement is singular by construction, and zero at full rank, so for the feedback
        its damping is raised to at least 1e-3 of its diagonal and 1e-6 of H's. Cost
        n^3/3 + 4 r n^2.
        """
        undamped = schur_complement(self.H.astype(np.float64), R).astype(np.float32)
        lowered = schur_complement(self.damped, R)
        share = np.maximum(np.diag(lowered), 0.0) * max(self.damping, 1e-3)
        lowered[np.diag_indices_from(lowered)] += share + 1e-6
        cholesky = factor(lowered).cholesky
        del lowered  # at n = 11008 each of these is a gigabyte
        return undamped, feedback_matrix(cholesky, self.block_size)


def site_metric(
    H: NDArray[np.float64],
    cross: NDArray[np.float64] | None = None,
    *,
    rotation: str,
    damping: float,
    block_size: int,
    seed: int,
) -> SiteMetric:
    """Rotate, normalise, damp and factor H once for all matrices at a site.

    Damping is a share of each diagonal entry in the basis that is rounded; after a rotation
    these are nearly alike. The regression target without rotation takes a share of the mean.

    Parameters
    ----------
    H : float64 array, shape (n, n)
        Second moment of the inputs; not modified.
    cross : float64 array, shape (n, n), optional
        E[x z^T] of the original model's inputs x with the inputs z of H.
    block_size : int
        The quantizer's: columns that are rounded together.

    Raises
    ------
    NumericalError
        If H is not finite or cannot be factored.

    Notes
    -----
    Cost n^3/3 + O(n^2 (b + log n)); memory about 5 n^2 float64 at the peak.
    """
    n = len(H)
    scale = float(np.trace(H)) / n
    scale = scale if np.isfinite(scale) and scale > 0 else 1.0
    signs = random_signs(n, seed) if rotation == "hadamard" else None
    damped = rotate_moment(H / scale, signs)
    undamped = damped.astype(np.float32)
    shift = damping_shift(damped, damping)
    damped[np.diag_indices_from(damped)] += shift
    factored = factor(damped)
    shift = shift + factored.shift
    damped[np.diag_indices_from(damped)] += factored.shift
    target_factor = factored.cholesky
    if cross is not None:
        half = np.ascontiguousarray(rotate_columns(cross / scale, signs).T)
        cross = np.ascontiguousarray(rotate_columns(half, signs).T)
        if signs is None:
            # Channels differ in size here: a share of each would leave quiet ones to the noise.
            level = max(damping, _LEAST_TARGET_DAMPING)
            ridged = damped + np.diag(level - shift)
            shift = np.full(n, level)
            target_factor = factor(ridged).cholesky
        cross[np.diag_indices_from(cross)] += shift
    return SiteMetric(
        H=undamped,
        damped=damped,
        target_factor=target_factor,
        feedback=feedback_matrix(factored.cholesky, block_size),
        cross=cross,
        signs=signs,
        damping=damping + factored.ridge,
        retries=factored.retries,
        block_size=block_size,
    )
