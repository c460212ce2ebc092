"""The low-rank half step: rank-constrained regression with quantized factors (LPLR)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.linalg.diagonal_plus_low_rank import Moment
from lrc.linalg.lowrank import (
    rank_constrained_regression,
    solve_left,
    solve_right,
)
from lrc.linalg.norms import times_metric
from lrc.parts.low_rank import Factor, LowRank
from lrc.quant.factors import quantize_factor
from lrc.quant.two_sided import OutputMetric
from lrc.solvers.base import Problem


@dataclass(frozen=True)
class Pair:
    """Packed factors, left as L^T (r, m) and right as R (r, n), with the loss they attain."""

    left: Factor
    right: Factor
    loss: float

    def product(self) -> NDArray[np.float32]:
        """L R, float32 (m, n)."""
        return self.left.to_dense().T @ self.right.to_dense()

    def part(self) -> LowRank:
        """L R as it is stored."""
        return LowRank(self.left, self.right)


def pair_loss(
    energy: float,
    G: NDArray[np.float32],
    H: Moment,
    Lt: NDArray[np.float32],
    R: NDArray[np.float32],
) -> float:
    """tr((A - L R) H (A - L R)^T) from ``energy`` = tr(A H A^T) and G = A H; cost 2 r n (m + n)."""
    left = Lt.astype(np.float64)
    cross = np.einsum("ij,ij->", left @ G, R, dtype=np.float64)
    inner = (left @ left.T) * (R.astype(np.float64) @ (H @ R.T))
    return float(energy - 2.0 * cross + inner.sum())


def fit_factors(
    A: NDArray[np.float32],
    H: Moment,
    rank: int,
    bits: int,
    *,
    iterations: int,
    warm: Pair | None = None,
    start: NDArray[np.float64] | None = None,
    seed: int,
    outputs: OutputMetric | None = None,
    threads: int = 1,
    device: str = "cpu",
) -> Pair:
    """Quantized L, R with the least loss seen while solving for each in turn.

    Starts at ``warm``'s R or at ``start``, R (rank, n), else at the closed-form optimum; ends on
    an L solve. R is rounded to nearest before L is solved for it, so L absorbs what rounding R
    lost (rounding R under H instead measured worse above 2 bits); L is rounded under R H R^T.

    Parameters
    ----------
    A : float32 array, shape (m, n)
    H : float32 array, shape (n, n)
    rank, bits : int
        ``bits`` 16 keeps float16 factors.
    iterations : int
        Solves for R after the first.
    outputs : OutputMetric, optional
        Weighs errors of one output against another's. L for a given R is the same in all of them.

    Notes
    -----
    Law: the loss is never above that of ``warm``. Cost 2 m n^2 for A H, then
    O(r n (m + n)) an iteration. Source: CALDERA, arXiv 2405.18886 (LPLR).
    """
    root = None if outputs is None else outputs.root
    weighed = A if root is None else root.T @ A
    G = times_metric(weighed, H, threads, device)
    energy = float(np.einsum("ij,ij->", G, weighed, dtype=np.float64))

    def weighed_left(left: Factor) -> NDArray[np.float32]:
        Lt = left.to_dense()
        return Lt if root is None else Lt @ root

    def loss(left: Factor, right: Factor) -> float:
        return pair_loss(energy, G, H, weighed_left(left), right.to_dense())

    best: Pair | None = None
    if warm is not None:
        R = warm.right.to_dense().astype(np.float64)
        best = Pair(warm.left, warm.right, loss(warm.left, warm.right))
    else:
        R = (
            rank_constrained_regression(weighed, H, rank, seed=seed, device=device).R
            if start is None
            else start
        )
    for _ in range(iterations):
        right = quantize_factor(R, bits)
        rounded = right.to_dense()
        L = solve_left(A, H, rounded)
        left = quantize_factor(L.T, bits, gram=rounded @ (H @ rounded.T), threads=threads)
        pair = Pair(left, right, loss(left, right))
        if best is None or pair.loss < best.loss:
            best = pair
        R = solve_right(weighed, weighed_left(left).T)
    assert best is not None
    return best


def fit_weighted(problem: Problem, A: NDArray[np.float32], rank: int) -> Pair:
    """L R of A (m, n), the best of its rank in the metric that the problem weighs L R by."""
    return fit_factors(
        A,
        problem.weighting,
        rank,
        problem.spec.low_rank.factor_bits,
        iterations=problem.spec.inner_iterations,
        seed=problem.spec.seed,
        outputs=problem.outputs,
        threads=problem.threads,
    )
