"""CALDERA: alternate Q <- LDLQ(T - L R) and (L, R) <- regression(T - Q), keep the best."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.decompose.base import Problem, Solution, Trace
from lrc.decompose.lrstep import Pair, choose_rank, fit_factors
from lrc.decompose.qstep import feedback_rounding, polished, search_scale
from lrc.quant.ldlq import Rounded

#: An automatic rank may add at most this share of the backbone's bits.
_AUTO_SHARE = 0.1


@dataclass(frozen=True)
class _State:
    rounded: Rounded
    scale: NDArray[np.float32]
    pair: Pair | None
    error: float


def caldera(problem: Problem) -> Solution:
    """Q + L R by alternation, Q first.

    Q is rounded under the Schur complement of the last R, because L is solved again after it;
    each round ends on an L solve, is scored with the undamped H, and the best is kept. Stops
    when a round gains less than ``spec.tolerance``.

    Notes
    -----
    Law: the error returned is the least of the trace's complete rounds, and no worse than that
    of Q alone. Cost a round: n^3/3 + about (12 + 2 sweeps) m n^2; Q's first
    rounding, polished in full, costs as much as about three rounds.
    Source: Saha et al., CALDERA, arXiv 2405.18886.
    """
    spec, metric, T = problem.spec, problem.metric, problem.target
    energy = problem.energy
    H = metric.H
    block_size = problem.quantizer.block_size
    feedback = metric.feedback_for(block_size)
    scale = search_scale(problem, T, H, feedback)
    rounded, scale = feedback_rounding(problem, T, H, feedback, scale)
    del feedback
    error = problem.error(T - rounded.values, energy)
    trace = Trace().then("Q", error)
    best = state = _State(rounded, scale, None, error)
    rank, note = _rank(problem, T - rounded.values)
    pair = None
    if rank:
        pair = _fit(problem, T - rounded.values, rank, None)
        state = _scored(problem, rounded, scale, pair, energy)
        trace = trace.then("LR", state.error)
        best = _better(best, state)
    for _ in range(spec.iterations if pair else 0):
        assert pair is not None
        previous = state.error
        lowered, feedback = metric.downdated(pair.right.to_dense(), block_size)
        A = T - pair.product()
        scale = search_scale(problem, A, lowered, feedback)
        rounded, scale = feedback_rounding(problem, A, lowered, feedback, scale, turns=1)
        del lowered, feedback  # or the next round's would lie beside them
        trace = trace.then("Q", problem.error(A - rounded.values, energy))
        pair = _fit(problem, T - rounded.values, rank, pair)
        state = _scored(problem, rounded, scale, pair, energy)
        trace = trace.then("LR", state.error)
        best = _better(best, state)
        if previous - state.error < spec.tolerance * previous:
            break
    if best.pair is not None:
        best, trace = _settle(problem, best, best.pair, energy, trace)
    elif rank:
        note = f"rank 0: with rank {rank} the error was no lower than with Q alone"
    left, right = (best.pair.left, best.pair.right) if best.pair else (None, None)
    return Solution(best.rounded.codes, best.scale, left, right, trace, (note,) if note else ())


def _settle(
    problem: Problem, state: _State, pair: Pair, energy: float, trace: Trace
) -> tuple[_State, Trace]:
    """Polish Q for the factors as they are, then solve for L once more; kept if better."""
    T, product = problem.target, pair.product()
    A = T - product
    rounded, scale = polished(problem, A, problem.metric.H, state.rounded, state.scale)
    error = problem.error(A - rounded.values, energy)
    trace = trace.then("Q", error)
    best = _better(state, _State(rounded, scale, pair, error))
    refit = _fit(problem, T - rounded.values, pair.right.rank, pair)
    error = problem.error(T - rounded.values - refit.product(), energy)
    return _better(best, _State(rounded, scale, refit, error)), trace.then("LR", error)


def _scored(
    problem: Problem, rounded: Rounded, scale: NDArray[np.float32], pair: Pair, energy: float
) -> _State:
    residual = problem.target - rounded.values - pair.product()
    return _State(rounded, scale, pair, problem.error(residual, energy))


def _better(a: _State, b: _State) -> _State:
    return b if b.error < a.error else a


def _fit(problem: Problem, A: NDArray[np.float32], rank: int, warm: Pair | None) -> Pair:
    return fit_factors(
        A,
        problem.metric.H,
        rank,
        problem.spec.low_rank.factor_bits,
        iterations=problem.spec.inner_iterations,
        warm=warm,
        seed=problem.spec.seed,
        threads=problem.threads,
    )


def _rank(problem: Problem, E: NDArray[np.float32]) -> tuple[int, str]:
    wanted = problem.spec.low_rank.rank
    limit = min(E.shape)
    if wanted == "auto":
        share = _AUTO_SHARE * problem.spec.quant.bits
        bits = problem.spec.low_rank.factor_bits
        return choose_rank(E, problem.metric.H, bits, most_bits=share, seed=problem.spec.seed)
    if wanted > limit:
        return limit, f"rank {limit}: {wanted} exceeds the smaller side"
    return wanted, ""
