"""The plain recipes over the same parts: nearest rounding, LDLQ alone, low rank alone."""

from __future__ import annotations

from lrc.errors import SpecError
from lrc.solvers.base import Problem, Solution, Trace
from lrc.solvers.lrstep import fit_factors
from lrc.solvers.qstep import feedback_rounding, nearest


def round_to_nearest(problem: Problem) -> Solution:
    """Q = nearest codewords of T; looks at no activations. Cost: one rounding."""
    rounded, scale = nearest(problem)
    error = problem.error(problem.target - rounded.values, problem.energy)
    return Solution((problem.codes(rounded, scale),), Trace().then("Q", error))


def ldlq_only(problem: Problem) -> Solution:
    """Q by LDLQ with polish, no low rank. Cost about (3 + 2 sweeps) m n^2."""
    T, H = problem.target, problem.metric.H
    feedback = problem.metric.feedback_for(problem.quantizer.block_size)
    rounded, scale = feedback_rounding(problem, T, H, feedback)
    error = problem.error(T - rounded.values, problem.energy)
    return Solution((problem.codes(rounded, scale),), Trace().then("Q", error))


def low_rank_only(problem: Problem) -> Solution:
    """L R alone, the best of its rank under H, with quantized factors.

    Raises
    ------
    SpecError
        If the rank is automatic or zero: nothing would be stored.
    """
    low_rank = problem.spec.low_rank
    if not isinstance(low_rank.rank, int) or low_rank.rank == 0:
        raise SpecError(
            f"recipe low-rank needs a rank of at least 1, not {low_rank.rank!r}; give --rank N"
        )
    rank = min(low_rank.rank, *problem.target.shape)
    pair = fit_factors(
        problem.target,
        problem.metric.H,
        rank,
        low_rank.factor_bits,
        iterations=problem.spec.inner_iterations,
        seed=problem.spec.seed,
        threads=problem.threads,
    )
    error = problem.error(problem.target - pair.product(), problem.energy)
    notes = (f"rank {rank}: {low_rank.rank} exceeds the smaller side",) * (rank < low_rank.rank)
    return Solution((pair.part(),), Trace().then("LR", error), notes)
