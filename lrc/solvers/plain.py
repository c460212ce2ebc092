"""The plain recipes over the same parts: nearest rounding, LDLQ alone, low rank alone."""

from __future__ import annotations

import numpy as np

from lrc.parts.on_basis import OnBasis
from lrc.solvers.base import Basis, Problem, Solution, Trace
from lrc.solvers.corrected import fixed_rank
from lrc.solvers.lrstep import fit_factors, fit_weighted
from lrc.solvers.qstep import feedback_block, feedback_rounding, nearest


def round_to_nearest(problem: Problem) -> Solution:
    """Q = nearest codewords of T; looks at no activations. Cost: one rounding."""
    rounded, scale = nearest(problem)
    error = problem.error(problem.target - rounded.values, problem.energy)
    return Solution((problem.codes(rounded, scale),), Trace().then("Q", error))


def ldlq_only(problem: Problem) -> Solution:
    """Q by LDLQ with polish, no low rank. Cost about (3 + 2 sweeps) m n^2."""
    T, H = problem.target, problem.metric.H
    feedback = problem.metric.feedback_for(feedback_block(problem))
    rounded, scale = feedback_rounding(problem, T, H, feedback)
    error = problem.error(T - rounded.values, problem.energy)
    return Solution((problem.codes(rounded, scale),), Trace().then("Q", error))


def low_rank_only(problem: Problem) -> Solution:
    """L R alone, the best of its rank in the metric of ``spec.statistic``, with quantized factors.

    Law: with factors of 16 bits the loss in that metric S is the sum of the eigenvalues of T S T^T
    after the rank, to rounding. Cost 2 m n^2 + O(r n (m + n)).

    Raises
    ------
    SpecError
        If the rank is automatic or zero: nothing would be stored.
    """
    if problem.basis is not None:
        return _on_basis(problem, problem.basis)
    rank, notes = fixed_rank(problem)
    pair = fit_weighted(problem, problem.target, rank)
    error = problem.error(problem.target - pair.product(), problem.energy)
    return Solution((pair.part(),), Trace().then("LR", error), notes)


def _on_basis(problem: Problem, basis: Basis) -> Solution:
    """L for a given R, A H R^T (R H R^T)^-1: R is stored where its holder is.

    Equal R are rounded to equal words, whatever they are fitted to.
    """
    pair = fit_factors(
        problem.target,
        problem.weighting,
        len(basis.R),
        problem.spec.low_rank.factor_bits,
        iterations=1,
        start=basis.R.astype(np.float64),
        seed=problem.spec.seed,
        outputs=problem.outputs,
        threads=problem.threads,
    )
    error = problem.error(problem.target - pair.product(), problem.energy)
    part = pair.part()
    if basis.holder:
        part = OnBasis(part.left, part.right, basis=basis.holder)
    return Solution((part,), Trace().then("L", error))
