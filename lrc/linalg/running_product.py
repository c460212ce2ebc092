"""Products of errors with a second moment or its factor, while a few columns of them change.

Rounding goes through the columns of a matrix some at a time, and needs there what the errors so
far come to: E H, or E U with the feedback U. A dense matrix gives it by one product of all errors;
one of low rank keeps E V^T, which moves with the errors.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrc.linalg.diagonal_plus_low_rank import DiagonalPlusLowRank, LowRankFeedback, Moment

F32 = NDArray[np.float32]
#: The strictly block-lower factor that LDLQ feeds errors back by, (n, n).
Feedback: TypeAlias = F32 | LowRankFeedback


class RunningProduct(Protocol):
    """E M for errors E (m, n), of which columns change from the last to the first."""

    def columns(self, error: F32, at: slice) -> F32:
        """Columns ``at`` of the product, (m, w); with feedback, of the errors after them."""
        ...

    def within(self, at: slice) -> F32:
        """Rows and columns ``at`` of M, (w, w)."""
        ...

    def changed(self, change: F32, at: slice) -> None:
        """Take in that ``change`` (m, w) was added to columns ``at`` of the errors."""
        ...


class _Dense:
    def __init__(self, matrix: F32) -> None:
        self.matrix = matrix

    def columns(self, error: F32, at: slice) -> F32:
        return error @ self.matrix[:, at]

    def within(self, at: slice) -> F32:
        return self.matrix[at, at]

    def changed(self, change: F32, at: slice) -> None:
        """Nothing is remembered."""


class _DenseFeedback(_Dense):
    def columns(self, error: F32, at: slice) -> F32:
        return error[:, at.stop :] @ self.matrix[at.stop :, at]


class _LowRank:
    def __init__(self, H: DiagonalPlusLowRank, error: F32) -> None:
        self.H = H
        self.parts: F32 = (error @ H.rows.T) * H.signs

    def columns(self, error: F32, at: slice) -> F32:
        product: F32 = self.parts @ self.H.rows[:, at]
        product += error[:, at] * self.H.diagonal[at].astype(np.float32)
        return product

    def within(self, at: slice) -> F32:
        return self.H.block(at)

    def changed(self, change: F32, at: slice) -> None:
        self.parts += (change @ self.H.rows[:, at].T) * self.H.signs


class _LowRankFeedback:
    def __init__(self, feedback: LowRankFeedback, m: int) -> None:
        self.feedback = feedback
        self.parts = np.zeros((m, len(feedback.rows)), np.float32)

    def columns(self, error: F32, at: slice) -> F32:
        return self.parts @ self.feedback.gains[:, at]

    def within(self, at: slice) -> F32:
        return self.feedback.block(at)

    def changed(self, change: F32, at: slice) -> None:
        self.parts += change @ self.feedback.rows[:, at].T


def running_product(H: Moment, error: F32) -> RunningProduct:
    """E H from E = ``error`` (m, n) on. Cost 2 m n^2 for all columns, or 4 m n k at rank k."""
    return _LowRank(H, error) if isinstance(H, DiagonalPlusLowRank) else _Dense(H)


def running_feedback(feedback: Feedback, m: int) -> RunningProduct:
    """E U from E = 0 (m, n) on. Cost m n^2 for all columns, or 4 m n k at rank k."""
    if isinstance(feedback, LowRankFeedback):
        return _LowRankFeedback(feedback, m)
    return _DenseFeedback(feedback)
