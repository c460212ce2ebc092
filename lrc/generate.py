"""Sampling text from a model: one prompt at a time, or batches of free text."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from operator import methodcaller

import numpy as np
from numpy.typing import NDArray

from lrc.errors import SpecError
from lrc.models.llama import LlamaModel
from lrc.nn.cache import KVCache
from lrc.nn.tiles import tile_threads
from lrc.progress import SILENT, Progress
from lrc.threads import chunks, ordered_map, resolve_threads
from lrc.tokens import TokenIds

Logits = NDArray[np.float32]

#: What a compressed model may be fed with; see `generate`.
ACTIVATIONS = ("i8", "f32")
#: Tokens up to which stepping is faster than working through all of them at once.
STEPPED = 12
#: Sequences that `sample_batch` advances together; part of what decides its output.
BATCH = 16
#: Tokens that every batch advances between two reports of progress.
ROUND = 16
#: Summands of the first level of the inverse cumulative distribution.
_BLOCK = 256


@dataclass(frozen=True)
class Sampler:
    """How the next token is chosen.

    ``temperature`` 0 takes the likeliest token (the lowest id on a tie); ``top_p`` below 1 keeps
    the smallest set of likeliest tokens whose probabilities reach it (Holtzman et al., 2020).
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 20261122

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise SpecError(f"temperature={self.temperature} must be at least 0")
        if not 0 < self.top_p <= 1:
            raise SpecError(f"top_p={self.top_p} must lie in (0, 1]")
        if self.seed < 0:
            raise SpecError(f"seed={self.seed} must be at least 0")

    def pick(self, logits: Logits, rng: np.random.Generator) -> int:
        """Choose a token id from logits (vocab,); one uniform draw unless greedy."""
        if self.temperature == 0:
            return int(logits.argmax())
        shifted = logits.astype(np.float64) - logits.max()
        weights = np.exp(shifted / self.temperature)
        if self.top_p == 1:
            return _inverse(weights, rng.random())
        kept = _nucleus(weights, self.top_p)
        return int(kept[_inverse(weights[kept], rng.random())])


def _nucleus(weights: NDArray[np.float64], top_p: float) -> NDArray[np.intp]:
    """Smallest set of heaviest indices whose share reaches ``top_p``, heaviest first.

    All weights below ``(1 - top_p) / n`` of the total together hold less than ``1 - top_p`` of
    it, so none of them can be needed, and only the others are sorted.
    """
    total = weights.sum()
    likely = np.flatnonzero(weights >= (1 - top_p) * total / len(weights))
    order = likely[np.argsort(-weights[likely], kind="stable")]
    count = int(np.searchsorted(np.cumsum(weights[order]), top_p * total)) + 1
    return order[:count]


def _inverse(weights: NDArray[np.float64], u: float) -> int:
    """Index at the share ``u`` in [0, 1) of the cumulated weights."""
    mass = np.cumsum(weights)
    return min(int(np.searchsorted(mass, u * mass[-1], side="right")), len(mass) - 1)


def generate(
    model: LlamaModel,
    prompt_ids: Sequence[int] | NDArray[np.integer],
    max_new_tokens: int,
    sampler: Sampler | None = None,
    eos_ids: Collection[int] = (),
    *,
    threads: int | None = 1,
    activations: str = "i8",
    progress: Progress = SILENT,
) -> Iterator[int]:
    """Continue a prompt token by token.

    Parameters
    ----------
    model : LlamaModel
    prompt_ids : sequence of int
        At least one id.
    max_new_tokens : int
    sampler : Sampler or None
        None is greedy.
    eos_ids : collection of int
        Ids that end the text; they are not yielded.
    threads : int or None
        Threads that share each token of a compressed model; None is every processor. The text
        does not depend on it.
    activations : str
        "i8": compressed models decode on integer activations (15 bits, as pairs of int8);
        "f32": on float32 ones, which is exact and much slower.
    progress : Progress
        Is told when kernels have to be compiled first.

    Returns
    -------
    iterator of int
        New token ids, as they are chosen.

    Raises
    ------
    SpecError
        At once, when the prompt is empty, has ids that the model does not know, or does not
        fit the model's context together with ``max_new_tokens``.
    """
    prompt = np.asarray(prompt_ids, dtype=np.int64)
    if prompt.ndim != 1 or len(prompt) == 0:
        raise SpecError("the prompt has no tokens; give some text")
    if max_new_tokens < 1:
        raise SpecError(f"max_new_tokens={max_new_tokens} must be at least 1")
    limit = model.config.max_positions
    if len(prompt) + max_new_tokens > limit:
        raise SpecError(
            f"the prompt's {len(prompt)} tokens and {max_new_tokens} new ones exceed the model's "
            f"context of {limit}; shorten the prompt or ask for fewer tokens"
        )
    if activations not in ACTIVATIONS:
        raise SpecError(f"activations={activations!r} must be one of {', '.join(ACTIVATIONS)}")
    workers = resolve_threads(threads)
    model.check_ids(prompt)
    decoder = Decoder(model, len(prompt) + max_new_tokens - 1, workers, activations, progress)
    return _continue(decoder, prompt, max_new_tokens, sampler or Sampler(), frozenset(eos_ids))


class Decoder:
    """One sequence of a model, advanced token by token.

    A compressed model decodes single tokens with `lrc.nn.engine`; longer stretches, dense models
    and float32 activations go through the model's blocks.

    Parameters
    ----------
    model : LlamaModel
    capacity : int
        Most tokens that will be seen.
    threads : int
        Threads that share a token.
    activations : str
        "i8" or "f32".
    progress : Progress
    """

    def __init__(
        self,
        model: LlamaModel,
        capacity: int,
        threads: int = 1,
        activations: str = "i8",
        progress: Progress = SILENT,
    ) -> None:
        self._model, self._threads = model, threads
        self._cache = model.new_cache(1, capacity)
        self._engine = model.decode_engine(threads) if activations == "i8" else None
        if self._engine is not None:
            from lrc.nn.engine import announce_compilation

            announce_compilation(progress)

    def advance(self, ids: NDArray[np.integer]) -> Logits:
        """Logits (vocab,) after the tokens ``ids`` (T,); valid until the next call."""
        if self._engine is None or len(ids) > STEPPED:
            with tile_threads(self._threads):
                last = self._model.hidden(ids[None], self._cache)[0, -1]
                return self._model.head(last)
        rows = self._model.embed(ids)
        for row in rows[:-1]:
            self._engine.step(row, self._cache, head=False)
        return self._engine.step(rows[-1], self._cache)


def _continue(
    decoder: Decoder,
    prompt: NDArray[np.int64],
    max_new_tokens: int,
    sampler: Sampler,
    eos_ids: frozenset[int],
) -> Iterator[int]:
    rng = np.random.default_rng(sampler.seed)
    ids = prompt
    for _ in range(max_new_tokens):
        token = sampler.pick(decoder.advance(ids), rng)
        if token in eos_ids:
            return
        yield token
        ids = np.array([token])


def sample_batch(
    model: LlamaModel,
    nsamples: int,
    seqlen: int,
    seed: int,
    *,
    bos_id: int | None = None,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> TokenIds:
    """Text that the model writes itself, from BOS at temperature 1.

    An end-of-text token is a token like any other: the sequence goes on. The result depends on
    ``nsamples``, ``seqlen`` and ``seed``, never on ``threads``.

    Parameters
    ----------
    model : LlamaModel
    nsamples, seqlen : int
        Sequences, and tokens in each with BOS as the first.
    seed : int
        Each sequence has a random stream of its own, spawned from it.
    bos_id : int or None
        First token; None takes the configuration's.
    threads : int or None
        Batches of `BATCH` sequences that run at the same time.
    progress : Progress

    Returns
    -------
    (nsamples, seqlen) int32

    Raises
    ------
    SpecError
        When the model has no BOS, or ``seqlen`` exceeds its context.
    """
    bos = model.config.bos_id if bos_id is None else bos_id
    if bos is None:
        raise SpecError("the model's configuration names no bos_token_id; give calibration text")
    if nsamples < 1 or not 1 <= seqlen <= model.config.max_positions:
        raise SpecError(
            f"cannot sample {nsamples} sequences of {seqlen} tokens from a model with a context "
            f"of {model.config.max_positions}"
        )
    ids = np.full((nsamples, seqlen), bos, np.int32)
    streams = np.random.SeedSequence(seed).spawn(nsamples)
    draws = np.stack([np.random.default_rng(s).random(seqlen) for s in streams])
    batches = [_Batch(model, ids[part], draws[part]) for part in chunks(nsamples, BATCH)]
    workers = resolve_threads(threads)
    with progress.bar("sampling", nsamples * (seqlen - 1), "token") as advance:
        for part in chunks(seqlen - 1, ROUND):
            for tokens in ordered_map(methodcaller("run", part), batches, workers):
                advance(tokens)
    return ids


class _Batch:
    """Sequences that advance together; ``ids`` (B, seqlen) is filled in place (work)."""

    def __init__(self, model: LlamaModel, ids: TokenIds, draws: NDArray[np.float64]) -> None:
        self.model, self.ids, self.draws = model, ids, draws
        self.cache: KVCache | None = None

    def run(self, steps: slice) -> int:
        """Choose tokens ``steps.start + 1 .. steps.stop``; return how many in all sequences."""
        batch, seqlen = self.ids.shape
        if self.cache is None:
            self.cache = self.model.new_cache(batch, seqlen - 1)
        for i in range(steps.start, steps.stop):
            logits = self.model.logits(self.ids[:, i : i + 1], self.cache)[:, 0]
            self.ids[:, i + 1] = _sample_rows(logits, self.draws[:, i])
        chosen: int = batch * (steps.stop - steps.start)
        return chosen


def _sample_rows(logits: Logits, draws: NDArray[np.float64]) -> NDArray[np.intp]:
    """One token id a row at temperature 1, by inversion in two levels.

    Parameters
    ----------
    logits : (B, vocab) float32 (work)
    draws : (B,) float64 in [0, 1)
    """
    logits -= logits.max(axis=-1, keepdims=True)
    weights = np.exp(logits, out=logits)
    starts = np.arange(0, weights.shape[1], _BLOCK)
    blocks = np.add.reduceat(weights, starts, axis=1, dtype=np.float64)
    chosen = np.empty(len(draws), np.intp)
    for row, u in enumerate(draws):
        mass = np.cumsum(blocks[row])
        target = u * mass[-1]
        block = min(int(np.searchsorted(mass, target, side="right")), len(mass) - 1)
        inside = weights[row, starts[block] : starts[block] + _BLOCK].astype(np.float64)
        left = target - (mass[block] - blocks[row, block])
        within = np.searchsorted(np.cumsum(inside), left, side="right")
        chosen[row] = starts[block] + min(int(within), len(inside) - 1)
    return chosen
