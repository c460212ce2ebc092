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
from lrc.models.llama_block import LlamaBlock
from lrc.nn.layers import rms_norm
from lrc.nn.linear import Linear, make_linear
from lrc.quant.tables import EMBEDDING, HEAD

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
    layers = study.model.config.layers
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
        table = study.tables.dense(EMBEDDING, bits)
        streams.append(tuple(table[window][None] for window in study.heldout))
    return [widths.index(run.embed_bits) for run in runs], streams


def _through(
    study: Study,
    index: int,
    runs: Sequence[Trial],
    where: Sequence[int],
    streams: Sequence[_Streams],
) -> tuple[list[int], list[_Streams]]:
    """Run every distinct pair of incoming activations and levels through block ``index``."""
    dense = study.model.load_block(index)
    names = {key: f"model.layers.{index}.{key}" for key in dense.linears}
    own = [
        frozenset((key, run.levels[name]) for key, name in names.items() if name in run.levels)
        for run in runs
    ]
    blocks = _variants(study, index, dense, own)
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
    dense: LlamaBlock,
    own: Sequence[frozenset[tuple[str, Level]]],
) -> dict[frozenset[tuple[str, Level]], LlamaBlock]:
    """The block with each set of levels that occurs."""
    pairs = sorted({pair for levels in own for pair in levels})

    def linear(pair: tuple[str, Level]) -> Linear:
        key, level = pair
        name = f"model.layers.{index}.{key}"
        W = study.source.linear(f"{name}.weight")
        share = error_share(codebook_of(study.spec.decompose, level.bits, len(W)))
        weight = study.store.matrix(index, name, level, W, share)
        return make_linear(weight, getattr(dense.linears[key], "bias", None))

    made = dict(zip(pairs, ordered_map(linear, pairs, study.threads), strict=True))
    return {
        levels: dense.with_linears({pair[0]: made[pair] for pair in levels}) for levels in set(own)
    }


def _compare(study: Study, runs: Sequence[Trial], streams: Sequence[_Streams]) -> list[float]:
    """Mean divergence of each run but the first, the original."""
    widths = list(dict.fromkeys(_head_bits(study, run) for run in runs))
    heads = {bits: _head(study, bits) for bits in widths}
    total = np.zeros(len(runs) - 1)
    rows = 0
    for window in range(len(study.heldout)):
        length = study.heldout.shape[1]
        for part in chunks(length - length // 2, _ROWS):
            # What stands one position before each token of the second half predicts it.
            scored = slice(length // 2 - 1 + part.start, length // 2 - 1 + part.stop)

            def logits(run: int, window: int = window, scored: slice = scored) -> F32:
                return heads[_head_bits(study, runs[run])](streams[run][window][0, scored])

            reference = log_probabilities(logits(0))
            weights = np.exp(reference)

            def divergence(
                run: int,
                logits: Callable[[int], F32] = logits,
                reference: F32 = reference,
                weights: F32 = weights,
            ) -> float:
                lost = log_probabilities(logits(run))
                np.subtract(reference, lost, out=lost)
                return float(np.einsum("ij,ij->", weights, lost, dtype=np.float64))

            total += list(ordered_map(divergence, range(1, len(runs)), study.threads))
            rows += len(reference)
    return [float(value) for value in np.maximum(total / rows, 0.0)]


def log_probabilities(logits: F32) -> F32:
    """Logarithms of the softmax of each row; ``logits`` is used up (work)."""
    logits -= logits.max(axis=-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return logits


def _head_bits(study: Study, run: Trial) -> int | None:
    return run.embed_bits if study.model.config.tied else run.head_bits


def _head(study: Study, bits: int | None) -> Callable[[F32], F32]:
    """Final norm, then the head at ``bits``: (rows, d) to (rows, vocab)."""
    name = EMBEDDING if study.model.config.tied else HEAD
    linear = make_linear(study.tables.dense(name, bits))
    norm, eps = study.source.dense("model.norm.weight"), study.model.config.eps
    return lambda h: linear(rms_norm(h, norm, eps))
