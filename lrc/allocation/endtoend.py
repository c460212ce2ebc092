"""KL divergence of the original model from models with surveyed candidates in them.

Many such models run side by side, block by block: those that agree so far share their
activations, so a model with one changed matrix costs only the blocks from it on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.allocation.options import Candidate, codebook_of, error_ratio
from lrc.allocation.survey import SurveyJob
from lrc.base.threads import chunks, ordered_map
from lrc.calibrate.walk import dense_weight, replaced
from lrc.measure.divergence import Prediction
from lrc.models.base import Block, Stack
from lrc.models.tensors import EMBEDDING, HEAD, linear_of
from lrc.nn.linear import Linear
from lrc.nn.memory import MEMORY
from lrc.nn.ops import STREAM, Values

F32 = NDArray[np.float32]

#: Positions whose logits exist at the same time, for each model.
_ROWS = 128


@dataclass(frozen=True)
class Trial:
    """A model to measure: candidates by matrix name, bits of the tables; else the original's."""

    candidates: Mapping[str, Candidate] = field(default_factory=dict)
    embed_bits: int | None = None
    head_bits: int | None = None


def divergences(job: SurveyJob, trials: Sequence[Trial], description: str) -> list[float]:
    """Mean KL(original || trial) in nats over the scored tokens of the held-out examples.

    Errors of lattices stand in, scaled, for those of the codebook that the spec asks for.

    Notes
    -----
    Memory: the activations of every trial that differs from the others so far. Results do not
    depend on the threads, nor a trial's on the others.
    """
    runs = [Trial(), *trials]
    layers = job.model.tensors.blocks
    with job.progress.bar(description, layers + 1, "block") as advance:
        nothing: list[_Streams] = [tuple({} for _ in job.heldout.first)]
        where, streams = [0] * len(runs), nothing
        for stack, inputs in zip(job.model.stacks, job.heldout.inputs, strict=True):
            where, streams = _start(job, stack, inputs, runs, where, streams)
            for index in range(len(stack)):
                where, streams = _through(job, stack, index, runs, where, streams)
                advance()
            if stack is not job.model.stacks[-1]:
                streams = [tuple({MEMORY: stack.finish(v[STREAM])} for v in of) for of in streams]
        found = _compare(job, runs, [streams[i] for i in where])
        job.model.release()
        advance()
    return found


#: Of each held-out example: the residual stream (1, T, d), and the memory where there is one.
_Streams = tuple[Values, ...]


def _start(
    job: SurveyJob,
    stack: Stack,
    inputs: Sequence[NDArray[Any]],
    runs: Sequence[Trial],
    where: Sequence[int],
    given: Sequence[_Streams],
) -> tuple[list[int], list[_Streams]]:
    """Start a stack once for each width of the embedding and each memory that occur together."""
    embeds = stack is job.model.stacks[-1]
    pairs = [(run.embed_bits if embeds else None, i) for run, i in zip(runs, where, strict=True)]
    streams: list[_Streams] = []
    for bits, number in (distinct := list(dict.fromkeys(pairs))):
        own = _with_table(job, EMBEDDING, bits) if embeds else stack
        starts = zip(given[number], inputs, strict=True)
        streams.append(tuple({**values, STREAM: own.start(one)} for values, one in starts))
    return [distinct.index(pair) for pair in pairs], streams


def _through(
    job: SurveyJob,
    stack: Stack,
    index: int,
    runs: Sequence[Trial],
    where: Sequence[int],
    streams: Sequence[_Streams],
) -> tuple[list[int], list[_Streams]]:
    """Run every distinct pair of incoming activations and candidates through block ``index``."""
    dense = stack.load_block(index)
    names = {key: linear_of(tensor) for key, tensor in stack.linears(index).items()}
    own = [
        frozenset(
            (key, run.candidates[name]) for key, name in names.items() if name in run.candidates
        )
        for run in runs
    ]
    blocks = _variants(job, stack.first + index, dense, names, own)
    distinct = list(dict.fromkeys(zip(where, own, strict=True)))

    def work(item: tuple[int, frozenset[tuple[str, Candidate]], int]) -> Values:
        stream, candidates, place = item
        values = streams[stream][place]
        positions = np.arange(values[STREAM].shape[1])
        moved = blocks[candidates](values[STREAM], positions, given=values)
        return {**values, STREAM: moved}

    count = len(job.heldout.first)
    items = [(*pair, window) for pair in distinct for window in range(count)]
    moved = list(ordered_map(work, items, job.threads))
    number = {pair: i for i, pair in enumerate(distinct)}
    fresh = [tuple(moved[i * count : (i + 1) * count]) for i in range(len(distinct))]
    return [number[pair] for pair in zip(where, own, strict=True)], fresh


def _variants(
    job: SurveyJob,
    index: int,
    dense: Block,
    names: Mapping[str, str],
    own: Sequence[frozenset[tuple[str, Candidate]]],
) -> dict[frozenset[tuple[str, Candidate]], Block]:
    """The block with each set of candidates that occurs."""
    pairs = sorted({pair for candidates in own for pair in candidates})

    def linear(pair: tuple[str, Candidate]) -> Linear:
        key, candidate = pair
        W = dense_weight(dense, key)
        ratio = error_ratio(codebook_of(job.spec.decompose, candidate.bits, W.shape))
        weight = job.store.matrix(index, names[key], candidate, W, ratio)
        return replaced(dense, key, weight)

    made = dict(zip(pairs, ordered_map(linear, pairs, job.threads), strict=True))
    return {
        candidates: dense.with_linears({pair[0]: made[pair] for pair in candidates})
        for candidates in set(own)
    }


def _compare(job: SurveyJob, runs: Sequence[Trial], streams: Sequence[_Streams]) -> list[float]:
    """Mean divergence of each run but the first, the original."""
    tied = HEAD not in job.model.tensors.tables
    bits = [run.embed_bits if tied else run.head_bits for run in runs]
    role = EMBEDDING if tied else HEAD
    stacks = {width: _with_table(job, role, width) for width in dict.fromkeys(bits)}
    total = np.zeros(len(runs) - 1)
    rows = 0
    for place, first in enumerate(job.heldout.first):
        length = job.heldout.inputs[-1][place].shape[1]
        for part in chunks(length - first, _ROWS):
            # What stands one position before each token that is scored predicts it.
            scored = slice(first - 1 + part.start, first - 1 + part.stop)

            def prediction(run: int, place: int = place, scored: slice = scored) -> Prediction:
                h = streams[run][place][STREAM][0, scored]
                return Prediction(stacks[bits[run]].finish(h))

            original = prediction(0)

            def divergence(
                run: int,
                prediction: Callable[[int], Prediction] = prediction,
                original: Prediction = original,
            ) -> float:
                return float(original.divergence(prediction(run)).sum())

            total += list(ordered_map(divergence, range(1, len(runs)), job.threads))
            rows += part.stop - part.start
    return [float(value) for value in np.maximum(total / rows, 0.0)]


def _with_table(job: SurveyJob, role: str, bits: int | None) -> Stack:
    """The original's stack that has the tables, with one of them at ``bits``."""
    stack = job.model.stacks[-1]
    table = job.tables.dense(job.model.tensors.tables[role], bits)
    return stack.with_tables({role: table})
