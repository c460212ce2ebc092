"""KL divergence of the original model from models with surveyed candidates in them.

Many such models run side by side, block by block: those that agree so far share their
activations, so a model with one changed matrix costs only the blocks from it on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

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
    """Mean KL(original || trial) in nats over the second half of each held-out window.

    Errors of lattices stand in, scaled, for those of the codebook that the spec asks for.

    Notes
    -----
    Memory: the activations of every trial that differs from the others so far. Results do not
    depend on the threads, nor a trial's on the others.
    """
    runs = [Trial(), *trials]
    layers = job.model.tensors.blocks
    with job.progress.bar(description, layers + 1, "block") as advance:
        where, streams = _start(job, runs)
        for index in range(layers):
            where, streams = _through(job, index, runs, where, streams)
            advance()
        found = _compare(job, runs, [streams[i] for i in where])
        job.model.release()
        advance()
    return found


#: Residual streams (1, T, d) of the held-out windows, one after the other.
_Streams = tuple[F32, ...]


def _start(job: SurveyJob, runs: Sequence[Trial]) -> tuple[list[int], list[_Streams]]:
    """Embed the windows once for each width of the embedding that occurs."""
    widths = list(dict.fromkeys(run.embed_bits for run in runs))
    streams = []
    for bits in widths:
        stack = _with_table(job, EMBEDDING, bits)
        streams.append(tuple(stack.start(window[None]) for window in job.heldout))
    return [widths.index(run.embed_bits) for run in runs], streams


def _through(
    job: SurveyJob,
    index: int,
    runs: Sequence[Trial],
    where: Sequence[int],
    streams: Sequence[_Streams],
) -> tuple[list[int], list[_Streams]]:
    """Run every distinct pair of incoming activations and candidates through block ``index``."""
    (stack,) = job.model.stacks
    dense = stack.load_block(index)
    names = {key: linear_of(tensor) for key, tensor in stack.linears(index).items()}
    own = [
        frozenset(
            (key, run.candidates[name]) for key, name in names.items() if name in run.candidates
        )
        for run in runs
    ]
    blocks = _variants(job, index, dense, names, own)
    distinct = list(dict.fromkeys(zip(where, own, strict=True)))
    positions = np.arange(job.heldout.shape[1])

    def work(item: tuple[int, frozenset[tuple[str, Candidate]], int]) -> F32:
        stream, candidates, window = item
        return blocks[candidates](streams[stream][window], positions)

    count = len(job.heldout)
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
        ratio = error_ratio(codebook_of(job.spec.decompose, candidate.bits, len(W)))
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
    for window in range(len(job.heldout)):
        length = job.heldout.shape[1]
        for part in chunks(length - length // 2, _ROWS):
            # What stands one position before each token of the second half predicts it.
            scored = slice(length // 2 - 1 + part.start, length // 2 - 1 + part.stop)

            def prediction(run: int, window: int = window, scored: slice = scored) -> Prediction:
                return Prediction(stacks[bits[run]].finish(streams[run][window][0, scored]))

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
    """The original's stack, with one of its tables at ``bits``."""
    (stack,) = job.model.stacks
    table = job.tables.dense(job.model.tensors.tables[role], bits)
    return stack.with_tables({role: table})
