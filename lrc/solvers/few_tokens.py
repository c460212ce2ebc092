"""What the matrices of a site share where its tokens are few beside its inputs.

`lrc/solvers/site.py` in another form: H is a diagonal and rows of tokens, and no matrix of n x n
is ever made. The same damping, shrinkage, target and correction, by the Woodbury identity.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import chunks, ordered_map
from lrc.linalg.diagonal_plus_low_rank import (
    DiagonalPlusLowRank,
    LowRankFeedback,
    block_ldl,
    regression_on_rows,
    schur_complement,
)
from lrc.linalg.factor import Raised, raising_the_diagonal, shift_of
from lrc.linalg.incoherence import random_signs, rotate_columns
from lrc.solvers.site import (
    CORRECTION_RIDGE,
    LEAST_TARGET_DAMPING,
    SiteMetric,
    rotated_diagonal,
)

F32 = NDArray[np.float32]

_CHUNK_ROWS = 512
#: Share of its diagonal that H has to have beside its rows, to be told from what rounding makes.
_LEAST_RIDGE = 1e-6


@dataclass(frozen=True)
class FewTokensMetric:
    """The fields and methods of :class:`lrc.solvers.site.SiteMetric`, whose H is of low rank.

    ``target_shift`` float64 (n,) damps the regression target, and ``lack`` float32 (k, n) are
    the rows of the original's inputs less those of H; both are None with one stream. Memory
    3 k n float32 for k tokens, of them 2 once the targets are known.
    """

    H: DiagonalPlusLowRank
    shift: NDArray[np.float64]
    target_shift: NDArray[np.float64] | None
    feedback: LowRankFeedback
    lack: F32 | None
    signs: F32 | None
    scale: float
    damping: float
    retries: int
    block_size: int
    rounding_loss: float
    weighting: F32 | None = None

    def weighing(self, diagonal: NDArray[np.float64] | None) -> FewTokensMetric:
        """The metric that weighs errors of L R by a diagonal (n,), as `SiteMetric.weighing`.

        None, the default, leaves H; a diagonal takes 4 n^2 bytes, for it is full once rotated.
        """
        if diagonal is None:
            return self
        return dataclasses.replace(self, weighting=rotated_diagonal(diagonal, self.signs))

    @property
    def has_target(self) -> bool:
        """Whether the original's inputs are known, too."""
        return self.lack is not None

    def target(self, W: F32, mix: float, threads: int = 1) -> F32:
        """W + mix W (C - H) (H + shift)^{-1}: the target of `SiteMetric`, with C - H as rows."""
        if self.lack is None or self.target_shift is None or mix == 0.0:
            return W
        parts = np.empty((len(W), len(self.lack)), np.float32)

        def part(rows: slice) -> None:
            parts[rows] = W[rows] @ lack.T

        lack = self.lack
        for _ in ordered_map(part, chunks(len(W), _CHUNK_ROWS), threads):
            pass
        moved = regression_on_rows(parts, self.H.with_diagonal(self.target_shift))
        moved *= np.float32(mix)
        moved += W
        return moved

    def correction(self, D: F32, threads: int = 1) -> F32:
        """What the site's layer can add to its outputs to close a gap d, from its rows (k, d)."""
        ridge = CORRECTION_RIDGE * self.H.diag()
        damped = self.H.with_diagonal(np.where(ridge > 0, ridge, 1.0))
        return regression_on_rows(D.T / np.sqrt(self.scale), damped)

    def without_target(self) -> FewTokensMetric:
        """The metric once all targets are known."""
        return dataclasses.replace(self, lack=None, target_shift=None)

    def feedback_for(self, block_size: int) -> LowRankFeedback:
        """Feedback for a quantizer of ``block_size`` columns, a multiple of the site's."""
        return self.feedback.coarser(block_size)

    def downdated(self, R: NDArray[np.floating]) -> DiagonalPlusLowRank:
        """Metric of Q when L will be solved again for R: the undamped H'."""
        return schur_complement(self.H, R)

    def downdated_feedback(self, R: NDArray[np.floating], block_size: int) -> LowRankFeedback:
        """Feedback of LDLQ under the downdated metric. Cost 3 k^2 n."""
        return self._downdated_ldl(R, block_size)[0]

    def downdated_loss(self, R: NDArray[np.floating]) -> float:
        """The rounding loss of the downdated metric, damped alike. Cost 3 k^2 n."""
        return self._downdated_ldl(R, self.block_size)[1]

    def _downdated_ldl(
        self, R: NDArray[np.floating], block_size: int
    ) -> tuple[LowRankFeedback, float]:
        rounding = len(self.H) * np.finfo(np.float32).eps
        lowered = schur_complement(self.H.with_diagonal(self.shift + rounding), R)
        ridge = np.maximum(lowered.diag(), 0.0) * max(self.damping, 1e-3)
        return _factored(lowered.with_diagonal(ridge + 1e-6), block_size).made


Metric: TypeAlias = SiteMetric | FewTokensMetric


def few_tokens_metric(
    H: DiagonalPlusLowRank,
    original: F32 | None = None,
    *,
    rotation: str,
    damping: float,
    block_size: int,
    seed: int,
    shrinkage: float = 0.0,
) -> FewTokensMetric:
    """Rotate, normalise, damp and factor H once for all matrices at a site.

    Parameters
    ----------
    H : DiagonalPlusLowRank
        Rows of k tokens alone; see :meth:`lrc.linalg.row_moment.RowMoment.matrix`. Not modified.
    original : float32 array, shape (k, n), optional
        The original model's rows, in the places of those of H.
    rotation, damping, block_size, seed, shrinkage
        As in :func:`lrc.solvers.site.site_metric`.

    Raises
    ------
    NumericalError
        If H cannot be factored.

    Notes
    -----
    Cost 3 k^2 n; memory 3 k n float32 beside what is given.
    """
    n = len(H)
    scale = float(H.diag().sum()) / n
    scale = scale if np.isfinite(scale) and scale > 0 else 1.0
    signs = random_signs(n, seed) if rotation == "hadamard" else None
    rows = _rotated(H.rows, signs, scale)
    plain = DiagonalPlusLowRank(np.zeros(n), rows, H.signs)
    shrunk = shrinkage * plain.diag()
    undamped = plain.with_diagonal(shrunk)
    diagonal = undamped.diag()
    shift = shift_of(diagonal, damping)
    found = _factored(undamped.with_diagonal(shift), block_size)
    shift = shift + found.shift
    lack = target_shift = None
    if original is not None:
        lack = _rotated(original, signs, scale)
        lack -= rows
        least = max(damping, LEAST_TARGET_DAMPING)
        target_shift = shift if signs is not None else np.full(n, least)
    return FewTokensMetric(
        H=undamped,
        shift=shift,
        target_shift=target_shift,
        feedback=found.made[0],
        lack=lack,
        signs=signs,
        scale=scale,
        damping=damping + found.ridge,
        retries=found.retries,
        block_size=block_size,
        rounding_loss=found.made[1],
    )


def _factored(H: DiagonalPlusLowRank, block_size: int) -> Raised[tuple[LowRankFeedback, float]]:
    diagonal = H.diag()
    least = _LEAST_RIDGE * diagonal

    def factors(added: NDArray[np.float64]) -> tuple[LowRankFeedback, float]:
        raised = H.with_diagonal(added)
        if (raised.diagonal < least).any():
            raise np.linalg.LinAlgError
        return block_ldl(raised, block_size)

    return raising_the_diagonal(factors, diagonal)


def _rotated(rows: F32, signs: F32 | None, scale: float) -> F32:
    """Rows (k, n) in the basis that is rounded, over the root of ``scale``; an own array."""
    result = np.empty_like(rows)
    factor = np.float32(1 / np.sqrt(scale))
    for part in chunks(len(rows), _CHUNK_ROWS):
        np.multiply(rotate_columns(rows[part], signs), factor, out=result[part])
    return result
