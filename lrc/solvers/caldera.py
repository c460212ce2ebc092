"""CALDERA: alternate Q and (L, R), each Q in the metric that the next L leaves; keep the best."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.linalg.lowrank import top_eigenvectors
from lrc.linalg.norms import rms
from lrc.quant.ldlq import Rounded
from lrc.solvers.base import Problem, Solution, Trace
from lrc.solvers.lrstep import Pair, fit_factors
from lrc.solvers.qstep import feedback_block, feedback_rounding, polished
from lrc.solvers.rank import AUTOMATIC_BITS, choose_rank, most_rank, predicted_losses

#: Q is rounded afresh where L R has brought the RMS of its target below this fraction.
_AFRESH = 0.95
#: Where L R may start; of equals the first is taken.
_STARTS = ("inputs", "weights", "error")


@dataclass(frozen=True)
class _State:
    rounded: Rounded
    scale: NDArray[np.float32]
    target_rms: float
    pair: Pair | None
    error: float


def caldera(problem: Problem) -> Solution:
    """Q + L R by alternation.

    Q alone comes first. Then L R starts at its error, or at the weights, which leaves Q a smaller
    target in a smaller metric; of several starts the best after one round goes on. Q moves under
    the Schur complement of the last R, because L is solved again after it: codes are polished from
    where they are, or rounded afresh once L R has taken a good part of their target, since their
    scale is then too wide. Each round ends on an L solve, is scored with the undamped H, and the
    best is kept. Stops when a round gains less than ``spec.tolerance``.

    Notes
    -----
    Law: the error returned is the least of the trace, and no worse than that of Q alone. Cost a
    round: (6 + 2 sweeps) m n^2 + 8 r n^2, and m n^2 + n^3/3 more where Q is rounded afresh, as
    in the first from each start; the first Q costs as much as two rounds.
    Source: Saha et al., CALDERA, arXiv 2405.18886; the starts are those of :class:`LowRankSpec`,
    the polished round is our own.
    """
    spec, metric, T = problem.spec, problem.metric, problem.target
    energy = problem.energy
    feedback = metric.feedback_for(feedback_block(problem))
    rounded, scale = feedback_rounding(problem, T, metric.H, feedback)
    del feedback
    error = problem.error(T - rounded.values, energy)
    trace = Trace().then("Q", error)
    best = state = _State(rounded, scale, rms(T), None, error)
    rank, note = _rank(problem, T - rounded.values)
    states = [_started(problem, state, rank, start) for start in _starts(problem, rank)]
    for index in range(spec.iterations + 1 if rank else 0):
        previous = state.error
        state = min((_round(problem, s, rank, energy) for s in states), key=_error)
        states = [state]
        trace = trace.then("LR", state.error)
        best = state if state.error < best.error else best
        if index and previous - state.error < spec.tolerance * previous:
            break
    if rank and best.pair is None:
        note = f"rank 0: with rank {rank} the error was no lower than with Q alone"
    low_rank = (best.pair.part(),) if best.pair else ()
    parts = (problem.codes(best.rounded, best.scale), *low_rank)
    return Solution(parts, trace, (note,) if note else ())


def _error(state: _State) -> float:
    return state.error


def _round(problem: Problem, state: _State, rank: int, energy: float) -> _State:
    """Q moved for the last (L, R), where there is one, then (L, R) solved for Q."""
    moved = state if state.pair is None else _moved(problem, state, state.pair)
    residual = problem.target - moved.rounded.values
    pair = _fit(problem, residual, rank, moved.pair)
    residual -= pair.product()
    return dataclasses.replace(moved, pair=pair, error=problem.error(residual, energy))


def _moved(problem: Problem, state: _State, pair: Pair) -> _State:
    """Q of the next round, in the metric of what a new L for ``pair``'s R cannot absorb."""
    A = problem.target - pair.product()
    R = pair.right.to_dense()
    rounded, scale, target_rms = state.rounded, state.scale, rms(A)
    if target_rms < _AFRESH * state.target_rms:
        feedback = problem.metric.downdated_feedback(R, feedback_block(problem))
        lowered = problem.metric.downdated(R)
        rounded, scale = feedback_rounding(problem, A, lowered, feedback, rounds=1)
        return dataclasses.replace(state, rounded=rounded, scale=scale, target_rms=target_rms)
    rounded, scale = polished(problem, A, problem.metric.downdated(R), rounded, scale, rounds=1)
    return dataclasses.replace(state, rounded=rounded, scale=scale)


def _starts(problem: Problem, rank: int) -> tuple[str, ...]:
    """What L R may start from.

    All are tried on the whole matrix: fitted to a sample of its rows, L R takes their noise for
    structure, and favours the error.
    """
    start = problem.spec.low_rank.start
    if not rank:
        return ("error",)
    return _STARTS if start == "auto" else (start,)


def _started(problem: Problem, state: _State, rank: int, start: str) -> _State:
    """The state with L R fitted to what it starts from; none yet where Q comes first."""
    if start == "error":
        return state
    R = None
    if start == "inputs":
        R = _leading_inputs(problem, rank)
    pair = _fit(problem, problem.target, rank, None, start=R, iterations=1)
    return dataclasses.replace(state, pair=pair)


def _leading_inputs(problem: Problem, rank: int) -> NDArray[np.float64]:
    """Directions of the strongest inputs, (rank, n)."""
    spec = problem.spec
    return top_eigenvectors(problem.metric.H, rank, spec.seed, spec.device)[1].T


def _fit(
    problem: Problem,
    A: NDArray[np.float32],
    rank: int,
    warm: Pair | None,
    *,
    start: NDArray[np.float64] | None = None,
    iterations: int = 0,
) -> Pair:
    return fit_factors(
        A,
        problem.metric.H,
        rank,
        problem.spec.low_rank.factor_bits,
        iterations=iterations or problem.spec.inner_iterations,
        warm=warm,
        start=start,
        seed=problem.spec.seed,
        outputs=problem.outputs,
        threads=problem.threads,
        device=problem.spec.device,
    )


def _rank(problem: Problem, E: NDArray[np.float32]) -> tuple[int, str]:
    wanted, rank = problem.spec.low_rank.rank, problem.spec.low_rank.rank_of(E.shape)
    if isinstance(rank, str):
        spec, bits = problem.spec, problem.spec.low_rank.factor_bits
        most_bits = AUTOMATIC_BITS * spec.quant.bits
        predicted = None
        if spec.low_rank.start != "error" and (most := most_rank(E.shape, bits, most_bits)):
            target = problem.weighed(problem.target)
            predicted = predicted_losses(
                target, problem.metric, most, seed=spec.seed, device=spec.device
            )
        return choose_rank(
            problem.weighed(E),
            problem.metric.H,
            bits,
            most_bits=most_bits,
            seed=spec.seed,
            threads=problem.threads,
            predicted=predicted,
            device=spec.device,
        )
    if not problem.spec.low_rank.keep and isinstance(wanted, int) and rank < wanted:
        return rank, f"rank {rank}: {wanted} exceeds the smaller side"
    return rank, ""
