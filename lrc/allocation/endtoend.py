"""KL divergence of the original model from models with some matrices at surveyed levels.

Many such models run side by side, block by block: those that agree so far share their
activations, so a model with one changed matrix costs only the blocks from it on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lrc.allocation.options import Level, codebook_of, error_share
from lrc.allocation.survey import Study
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
    """A model to measure: levels by matrix name, bits of the tables; else the original's."""

    levels: Mapping[str, Level] = field(default_factory=dict)
    embed_bits: int | None = None
    head_bits: int | None = None


def divergences(study: Study, trials: Sequence[Trial], description: str) -> list[float]:
    """Mean KL(original || trial) in nats over the second half of each held-out window.

    Errors of lattices stand in, scaled, for those of the codebook that the spec asks for.

    Notes
    -----
    Memory: the activations of every trial that differs from the others so far. Results do not
    depend on the threads, nor a trial's on the others.
    """
    runs = [Trial(), *trials]
    layers = study.model.tensors.blocks
    with study.progress.bar(description, layers + 1, "block") as advance:
        where, streams = _start(study, runs)
        for index in range(layers):
            where, streams = _through(study, index, runs, where, streams)
            advance()
        found = _compare(study, runs, [streams[i] for i in where])
        study.model.release()
        advance()
    return found


#: Residual streams (1, T, d) of the held-out windows, one after the other.
_Streams = tuple[F32, ...]


def _start(study: Study, runs: Sequence[Trial]) -> tuple[list[int], list[_Streams]]:
    """Embed the windows once for each width of the embedding that occurs."""
    widths = list(dict.fromkeys(run.embed_bits for run in runs))
    streams = []
    for bits in widths:
        stack = _with_table(study, EMBEDDING, bits)
        streams.append(tuple(stack.start(window[None]) for window in study.heldout))
    return [widths.index(run.embed_bits) for run in runs], streams


def _through(
    study: Study,
    index: int,
    runs: Sequence[Trial],
    where: Sequence[int],
    streams: Sequence[_Streams],
) -> tuple[list[int], list[_Streams]]:
    """Run every distinct pair of incoming activations and levels through block ``index``."""
    (stack,) = study.model.stacks
    dense = stack.load_block(index)
    names = {key: linear_of(tensor) for key, tensor in stack.linears(index).items()}
    own = [
        frozenset((key, run.levels[name]) for key, name in names.items() if name in run.levels)
        for run in runs
    ]
    blocks = _variants(study, index, dense, names, own)
    jobs = list(dict.fromkeys(zip(where, own, strict=True)))
    positions = np.arange(study.heldout.shape[1])

    def work(item: tuple[int, frozenset[tuple[str, Level]], int]) -> F32:
        stream, levels, window = item
        return blocks[levels](streams[stream][window], positions)

    count = len(study.heldout)
    items = [(*job, window) for job in jobs for window in range(count)]
    moved = list(ordered_map(work, items, study.threads))
    number = {job: i for i, job in enumerate(jobs)}
    fresh = [tuple(moved[i * count : (i + 1) * count]) for i in range(len(jobs))]
    return [number[job] for job in zip(where, own, strict=True)], fresh


def _variants(
    study: Study,
    index: int,
    dense: Block,
    names: Mapping[str, str],
    own: Sequence[frozenset[tuple[str, Level]]],
) -> dict[frozenset[tuple[str, Level]], Block]:
    """The block with each set of levels that occurs."""
    pairs = sorted({pair for levels in own for pair in levels})

    def linear(pair: tuple[str, Level]) -> Linear:
        key, level = pair
        W = dense_weight(dense, key)
        share = error_share(codebook_of(study.spec.decompose, level.bits, len(W)))
        weight = study.store.matrix(index, names[key], level, W, share)
        return replaced(dense, key, weight)

    made = dict(zip(pairs, ordered_map(linear, pairs, study.threads), strict=True))
    return {
        levels: dense.with_linears({pair[0]: made[pair] for pair in levels}) for levels in set(own)
    }


def _compare(study: Study, runs: Sequence[Trial], streams: Sequence[_Streams]) -> list[float]:
    """Mean divergence of each run but the first, the original."""
    tied = HEAD not in study.model.tensors.tables
    bits = [run.embed_bits if tied else run.head_bits for run in runs]
    role = EMBEDDING if tied else HEAD
    stacks = {width: _with_table(study, role, width) for width in dict.fromkeys(bits)}
    total = np.zeros(len(runs) - 1)
    rows = 0
    for window in range(len(study.heldout)):
        length = study.heldout.shape[1]
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

            total += list(ordered_map(divergence, range(1, len(runs)), study.threads))
            rows += part.stop - part.start
    return [float(value) for value in np.maximum(total / rows, 0.0)]


def _with_table(study: Study, role: str, bits: int | None) -> Stack:
    """The original's stack, with one of its tables at ``bits``."""
    (stack,) = study.model.stacks
    table = study.tables.dense(study.model.tensors.tables[role], bits)
    return stack.with_tables({role: table})
