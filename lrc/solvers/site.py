"""What all matrices that share an input share: the rotated, damped and factored moment."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.linalg.factor import (
    block_trace,
    coarser_feedback,
    damping_shift,
    factor,
    feedback_matrix,
    schur_complement,
)
from lrc.linalg.incoherence import random_signs, rotate_both, rotate_columns, symmetrise
from lrc.linalg.precision import is_wide, working_dtype
from lrc.linalg.target import (
    moved_target,
    regression_move,
    regression_target,
    residual_correction,
)

#: Share of diag(H) that a correction of the residual stream is damped with.
CORRECTION_RIDGE = 0.1
#: The regression target always needs some damping.
LEAST_TARGET_DAMPING = 1e-3


@dataclass(frozen=True)
class SiteMetric:
    """H in the basis where weights are rounded, normalised to mean diagonal 1, then shrunk.

    ``H`` float32 (n, n) is undamped: every error is measured with it; ``shift`` float64 (n,) is
    its damping. ``feedback`` float32 (n, n) drives LDLQ, ``block_size`` columns at a time.
    ``cross`` is the damped E[x z^T] in the same basis, and ``target_factor`` the Cholesky
    factor of the H damped alike; both are None with one stream. ``signs`` float32 (n,), None
    without rotation. ``scale`` is what H was divided by. ``rounding_loss`` is tr(D) of the damped
    H = U D U^T: what LDLQ loses for every unit of squared rounding error. ``damping`` and
    ``retries`` go to the report. ``weighting`` float32 (n, n), where it is not None, weighs errors
    of L R instead of H, in the same basis. ``device`` is where it is factored and downdated. From
    4096 inputs on, ``move`` float32 (n, n) is in place of ``cross``: C - H, or without a
    ``target_factor`` the regression's (C - H) (H + shift)^{-1}.
    """

    H: NDArray[np.float32]
    shift: NDArray[np.float64]
    target_factor: NDArray[np.floating] | None
    feedback: NDArray[np.float32]
    cross: NDArray[np.floating] | None
    signs: NDArray[np.float32] | None
    scale: float
    damping: float
    retries: int
    block_size: int
    rounding_loss: float
    weighting: NDArray[np.float32] | None = None
    device: str = "cpu"
    move: NDArray[np.floating] | None = None

    def weighing(self, diagonal: NDArray[np.float64] | None) -> SiteMetric:
        """The metric that weighs errors of L R by a diagonal (n,) of the original basis.

        None leaves H. Cost of a rotation; memory 8 n^2 bytes while it lasts, then 4 n^2.
        """
        if diagonal is None:
            return self
        return dataclasses.replace(self, weighting=rotated_diagonal(diagonal, self.signs))

    def target(self, W: NDArray[np.float32], mix: float, threads: int = 1) -> NDArray[np.float32]:
        """What to fit to W (columns already rotated) so that the compressed prefix is repaired."""
        if self.move is not None and mix != 0.0:
            return moved_target(W, self.move, self.target_factor, mix, threads)
        if self.cross is None or self.target_factor is None or mix == 0.0:
            return W
        return regression_target(W, self.cross, self.target_factor, mix, threads)

    @property
    def has_target(self) -> bool:
        """Whether the original's inputs are known, too."""
        return self.cross is not None or self.move is not None

    def correction(self, D: NDArray[np.floating], threads: int = 1) -> NDArray[np.float32]:
        """What the site's layer can add to its outputs to close a gap d, from D = E[d z^T]."""
        dtype = working_dtype(len(self.H))
        rotated = np.asarray(rotate_columns(D, self.signs), dtype) / dtype(self.scale)
        return residual_correction(rotated, self.H, CORRECTION_RIDGE, threads)

    def without_target(self) -> SiteMetric:
        """The metric once all targets are known: at n = 11008, two gigabytes less."""
        return dataclasses.replace(self, cross=None, target_factor=None, move=None)

    def feedback_for(self, block_size: int) -> NDArray[np.float32]:
        """Feedback for a quantizer of ``block_size`` columns, a multiple of the site's."""
        return coarser_feedback(self.feedback, self.block_size, block_size)

    def downdated(self, R: NDArray[np.floating]) -> NDArray[np.float32]:
        """Metric of Q when L will be solved again for R: the undamped H', float32 (n, n).

        Cost 4 r n^2.
        """
        if self.device != "cpu":
            from lrc.linalg import cuda

            return cuda.downdated(self.H, R)
        return schur_complement(self.H, R)

    def downdated_feedback(self, R: NDArray[np.floating], block_size: int) -> NDArray[np.float32]:
        """Feedback of LDLQ under the downdated metric, float32 (n, n).

        The complement is singular by construction, and zero at full rank, so its damping is
        raised to at least 1e-3 of its diagonal and 1e-6 of H's, after what float32 storage may
        have taken from H. Cost n^3/3 + 4 r n^2.
        """
        return feedback_matrix(self._downdated_cholesky(R), block_size)

    def downdated_loss(self, R: NDArray[np.floating]) -> float:
        """The rounding loss of the downdated metric, damped alike. Cost n^3/3 + 4 r n^2."""
        return block_trace(self._downdated_cholesky(R), self.block_size)

    def _downdated_cholesky(self, R: NDArray[np.floating]) -> NDArray[np.floating]:
        shift = self.shift + len(self.H) * np.finfo(np.float32).eps
        if self.device != "cpu":
            from lrc.linalg import cuda

            return cuda.downdated_cholesky(self.H, R, shift, self._ridge)
        H = self.H.astype(working_dtype(len(self.H)))
        H[np.diag_indices_from(H)] += shift
        lowered = schur_complement(H, R)
        del H  # at n = 11008 each of these is a gigabyte
        lowered[np.diag_indices_from(lowered)] += self._ridge(np.diag(lowered))
        return factor(lowered).cholesky

    def _ridge(self, diagonal: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the diagonal of a downdated metric (n,) is raised by."""
        ridge: NDArray[np.float64] = np.maximum(diagonal, 0.0) * max(self.damping, 1e-3) + 1e-6
        return ridge


def rotated_diagonal(
    diagonal: NDArray[np.float64], signs: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """A diagonal (n,) of mean 1 in the basis that is rounded, float32 (n, n)."""
    mean = float(diagonal.mean())
    work = np.diag(diagonal / mean if mean > 0 else diagonal)
    rotate_both(work, signs)
    symmetrise(work)
    return work.astype(np.float32)


def site_metric(
    work: NDArray[np.floating],
    work_cross: NDArray[np.floating] | None = None,
    *,
    rotation: str,
    damping: float,
    block_size: int,
    seed: int,
    shrinkage: float = 0.0,
    device: str = "cpu",
    outputs: int = 0,
) -> SiteMetric:
    """Rotate, normalise, damp and factor H once for all matrices at a site.

    Damping is a share of each diagonal entry in the basis that is rounded; after a rotation
    these are nearly alike. The regression target without rotation takes a share of the mean.

    Parameters
    ----------
    work : array, shape (n, n), of the dtype of :func:`lrc.linalg.precision.working_dtype`
        Second moment H of the inputs; overwritten.
    work_cross : array, shape (n, n), of the same dtype, optional
        E[x z^T] of the original model's inputs x with the inputs z of H; overwritten, and part
        of the result.
    block_size : int
        The least of the site's quantizers: columns that are rounded together.
    shrinkage : float
        Share of each diagonal entry, in the basis that is rounded, by which H is moved towards its
        diagonal for good: the remedy for an H that few tokens estimate (Ledoit and Wolf, 2004).
    outputs : int
        Rows of all the site's matrices: what makes solving once for all of them worth its cost.

    Raises
    ------
    NumericalError
        If H is not finite or cannot be factored.

    Notes
    -----
    Cost n^3/3 + O(n^2 (b + log n)), and 2 n^3 for ``move``. Memory beside what is given: 2 n^2
    float64, or 3 n^2 float32 from 4096 inputs on.
    """
    n = len(work)
    scale = float(np.trace(work)) / n
    scale = scale if np.isfinite(scale) and scale > 0 else 1.0
    signs = random_signs(n, seed) if rotation == "hadamard" else None
    work /= scale
    rotate_both(work, signs)
    symmetrise(work)
    shrunk = shrinkage * np.diag(work) if shrinkage else np.zeros(n)
    work[np.diag_indices(n)] += shrunk
    undamped = work.astype(np.float32)
    shift = damping_shift(work, damping)
    work[np.diag_indices(n)] += shift
    factored = factor(work, device)
    feedback_shift = shift = shift + factored.shift
    target_factor = factored.cholesky if work_cross is not None else None
    move: NDArray[np.floating] | None = None
    if work_cross is not None:
        work_cross /= scale
        rotate_both(work_cross, signs)
        if signs is None:
            # Channels differ in size here: a share of each would leave quiet ones to the noise.
            target_damping = max(damping, LEAST_TARGET_DAMPING)
            work[np.diag_indices(n)] += factored.shift + target_damping - shift
            shift = np.full(n, target_damping)
            target_factor = factor(work, device).cholesky
        work_cross[np.diag_indices(n)] += shrunk + shift
        if is_wide(n):
            work_cross -= undamped
            work_cross[np.diag_indices(n)] -= shift
            move, work_cross = work_cross, None
            if target_factor is not None and outputs >= n:
                move, target_factor = regression_move(move, target_factor), None
    return SiteMetric(
        H=undamped,
        shift=feedback_shift,
        target_factor=target_factor,
        feedback=feedback_matrix(factored.cholesky, block_size),
        cross=work_cross,
        signs=signs,
        scale=scale,
        damping=damping + factored.ridge,
        retries=factored.retries,
        block_size=block_size,
        rounding_loss=block_trace(factored.cholesky, block_size),
        device=device,
        move=move,
    )
