"""Two-sided LDLQ: rounding under a metric of outputs beside that of inputs.

Minimises tr(A (W - Q) H (W - Q)^T) over codes, with A (m, m) the second moment of the gradients at
the outputs. Rows that are coded together make a block. With the block LDL of A, rounding a block of
rows is plain LDLQ of its weights plus what the errors of the blocks after it come to, and polishing
one, given all others, is a plain polish of its weights plus what their errors come to.
Source: YAQA, arXiv 2505.22988; that its rounding is plain LDLQ of moved weights is our own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from lrc.base.threads import chunks
from lrc.linalg.diagonal_plus_low_rank import Moment
from lrc.linalg.factor import factor, feedback_matrix
from lrc.linalg.norms import times_metric
from lrc.quant.ldlq import Grid, Rounded

F32 = NDArray[np.float32]
#: Rows of a block where each is coded by itself.
_LEAST_ROWS = 32
#: Rounds some rows: their place, what to round and their grid.
RoundRows = Callable[[slice, F32, Grid], Rounded]
#: Moves the codes of some rows: their place, what to round, where they are and their grid.
PolishRows = Callable[[slice, F32, Rounded, Grid], Rounded]


@dataclass(frozen=True)
class OutputMetric:
    """A of the outputs, in the basis where weights are rounded, of mean diagonal 1.

    ``moment`` float32 (m, m) is positive definite, and ``feedback`` float32 (m, m) the strictly
    block-lower part of its unit factor, ``block_rows`` rows at a time.
    """

    moment: F32
    feedback: F32
    block_rows: int

    @cached_property
    def root(self) -> F32:
        """The lower Cholesky factor C of A: tr(A E H E^T) is tr(F H F^T) of F = C^T E.

        Of A with a little on its diagonal, where float32 has left it indefinite.
        """
        return np.asarray(factor(self.moment).cholesky, np.float32)

    @property
    def blocks(self) -> list[slice]:
        """Rows that are rounded together, the last first: errors are fed back to those before."""
        return chunks(len(self.moment), self.block_rows)[::-1]


def output_metric(A: NDArray[np.floating], block_rows: int) -> OutputMetric:
    """The metric of A (m, m) for a quantizer that codes ``block_rows`` rows together.

    Raises
    ------
    NumericalError
        A is not finite, or cannot be factored.

    Notes
    -----
    Cost m^3/3 + m^2 b.
    """
    scale = float(np.trace(A)) / len(A)
    wide = np.asarray(A, np.float64) / (scale if scale > 0 else 1.0)
    factored = factor(wide)
    wide[np.diag_indices_from(wide)] += factored.shift
    rows = -(-max(block_rows, _LEAST_ROWS) // block_rows) * block_rows
    feedback = feedback_matrix(factored.cholesky, rows)
    return OutputMetric(wide.astype(np.float32), feedback, rows)


def round_by_rows(W: F32, metric: OutputMetric, grid: Grid, round_rows: RoundRows) -> Rounded:
    """Round blocks of rows from the last to the first, each corrected by the errors so far.

    Block i is rounded at ``W_i + sum_{k>i} U[k, i]^T (W_k - Q_k)`` with U the metric's feedback,
    by ``round_rows``, which is LDLQ under the metric of the inputs.

    Notes
    -----
    Law: with eta = U_A^T (W - Q) U_H (unit diagonals included) the loss is tr(D_A eta D_H eta^T)
    for any rounding, and eta of a block is how far it was rounded off. Cost m^2 n beside the
    rounding.
    """
    error = np.zeros_like(W)
    found: list[Rounded] = []
    for rows in metric.blocks:
        after = slice(rows.stop, len(W))
        target = W[rows] + metric.feedback[after, rows].T @ error[after]
        found.append(round_rows(rows, target, grid.rows(rows)))
        error[rows] = W[rows] - found[-1].values
    return _stacked(found[::-1])


def polish_by_rows(
    W: F32,
    rounded: Rounded,
    metric: OutputMetric,
    H: Moment,
    grid: Grid,
    polish_rows: PolishRows,
    threads: int = 1,
) -> Rounded:
    """Polish blocks of rows, the last first, given all others; each moves only if the loss falls.

    With all else fixed the loss of the errors E_i of a block is least where
    ``E_i = -A_ii^{-1} sum_{k != i} A_ik E_k``: its codes move towards that.

    Notes
    -----
    Law: tr(A E H E^T) never rises, to rounding. Cost 2 m^2 n + 4 m n^2 beside the polish.
    """
    error, A = W - rounded.values, metric.moment
    found: list[Rounded] = []
    for rows in metric.blocks:
        before = Rounded(tuple(c[rows] for c in rounded.codes), rounded.values[rows])
        corner = A[rows, rows]
        gradient = A[rows] @ error
        own = gradient - corner @ error[rows]
        target = W[rows] + scipy.linalg.solve(corner, own, assume_a="pos", check_finite=False)
        after = polish_rows(rows, target, before, grid.rows(rows))
        change = after.values - before.values
        moved = times_metric(change, H, threads)
        fall = np.einsum("ij,ij->", 2.0 * gradient - corner @ change, moved, dtype=np.float64)
        if fall > 0:
            error[rows] -= change
        found.append(after if fall > 0 else before)
    return _stacked(found[::-1])


def two_sided_loss(E: NDArray[np.floating], A: NDArray[np.floating], H: Moment) -> float:
    """tr(A E H E^T), float64. Cost m n (m + n)."""
    return float(np.einsum("ij,ij->", A @ E, times_metric(E, H), dtype=np.float64))


def _stacked(blocks: Sequence[Rounded]) -> Rounded:
    planes = zip(*(block.codes for block in blocks), strict=True)
    values = np.concatenate([block.values for block in blocks])
    return Rounded(tuple(np.concatenate(plane) for plane in planes), values)
