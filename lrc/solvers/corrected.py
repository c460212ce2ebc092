"""Q and L R by turns of plain steps: what most methods that correct a quantized matrix do."""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from lrc.linalg.norms import squared_norm
from lrc.quant.ldlq import Rounded
from lrc.solvers.base import Problem, Solution, Trace
from lrc.solvers.lrstep import Pair, fit_weighted
from lrc.solvers.qstep import feedback_block, feedback_rounding, nearest

F32 = NDArray[np.float32]


def corrected(problem: Problem) -> Solution:
    """Q of what L R leaves and L R of what Q leaves, one after the other; the best round is kept.

    L R is the best of its rank in the metric S that ``spec.statistic`` makes of the inputs, and
    Q is rounded by ``spec.rounding``: to nearest, or with feedback under H. A round has one of
    each, ``spec.first`` first; at most ``spec.iterations`` rounds are done, and none after one that
    did not lower the error.

    Notes
    -----
    Law: tr(E S E^T) of the E returned is the least of all rounds. Cost a round: that of one Q
    (LDLQ about (3 + 2 sweeps) m n^2), and 2 m n^2 + O(r n (m + n)) for L R.
    Sources, by statistic, rounding and first step: :data:`lrc.recipes.RECIPES`.

    Raises
    ------
    SpecError
        If the rank is automatic or zero.
    """
    rank, notes = fixed_rank(problem)
    energy, metric = problem.energy, problem.weighting
    trace, best, least = Trace(), None, np.inf
    pair: Pair | None = None
    rounded: Rounded | None = None
    for _ in range(problem.spec.iterations):
        if problem.spec.first == "factors":
            pair = fit_weighted(problem, _less(problem.target, rounded), rank)
        rounded, scale = _rounded(problem, problem.target - _product(problem, pair))
        if problem.spec.first == "codes":
            pair = fit_weighted(problem, _less(problem.target, rounded), rank)
        residual = _less(problem.target, rounded) - _product(problem, pair)
        trace = trace.then("LR", problem.error(residual, energy))
        loss = squared_norm(problem.weighed(residual), metric, problem.threads)
        if loss >= least:
            break
        assert pair is not None
        least, best = loss, (problem.codes(rounded, scale), pair.part())
    assert best is not None
    return Solution(best, trace, notes)


def fixed_rank(problem: Problem) -> tuple[int, tuple[str, ...]]:
    """The rank that was asked for, and a note where the matrix is too small for it.

    Raises
    ------
    SpecError
        If the rank is automatic or zero: nothing would be stored, or nobody knows how much.
    """
    spec = problem.spec
    spec.check_size()
    rank, wanted = spec.low_rank.rank_of(problem.target.shape), spec.low_rank.rank
    assert isinstance(rank, int)
    if not spec.low_rank.keep and isinstance(wanted, int) and rank < wanted:
        return rank, (f"rank {rank}: {wanted} exceeds the smaller side",)
    return rank, ()


def _product(problem: Problem, pair: Pair | None) -> F32:
    return np.zeros_like(problem.target) if pair is None else pair.product()


def _less(target: F32, rounded: Rounded | None) -> F32:
    return target if rounded is None else target - rounded.values


def _rounded(problem: Problem, A: F32) -> tuple[Rounded, F32]:
    """Q of A, by the rounding of the spec."""
    if problem.spec.rounding == "nearest":
        return nearest(dataclasses.replace(problem, target=A))
    feedback = problem.metric.feedback_for(feedback_block(problem))
    return feedback_rounding(problem, A, problem.metric.H, feedback)
