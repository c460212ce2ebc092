"""Text that a model writes itself, many sequences at a time."""

from __future__ import annotations

from dataclasses import dataclass
from operator import methodcaller

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import SILENT, Progress
from lrc.base.threads import chunks, ordered_map, resolve_threads
from lrc.errors import SpecError
from lrc.models.base import Model
from lrc.nn.cache import KVCache
from lrc.run.sampler import Logits, check_logits, invert
from lrc.run.text import TokenIds, Tokenizer

#: Sequences that `sample_batch` advances together; part of what decides its output.
BATCH = 16
#: Tokens that every batch advances between two reports of progress.
ROUND = 16
#: Summands of the first level of the inverse cumulative distribution.
_BLOCK = 256


@dataclass(frozen=True)
class FirstToken:
    """What self-written text begins with: a token id, or None for a random one each.

    ``notes`` has a line where that is not the BOS that config.json names.
    """

    id: int | None
    notes: tuple[str, ...] = ()


def first_token(model: Model, tokenizer: Tokenizer) -> FirstToken:
    """BOS of config.json, else of the tokenizer's files, else an EOS, else a random token.

    EOS is what comes before a text where texts follow one another.
    """
    if model.bos_id is not None:
        return FirstToken(model.bos_id)
    begins = "config.json names no bos_token_id: self-written text begins with"
    if tokenizer.bos_id is not None:
        bos = tokenizer.bos_id
        return FirstToken(bos, (f"{begins} token {bos}, BOS of the tokenizer",))
    if tokenizer.eos_ids:
        eos = tokenizer.eos_ids[0]
        return FirstToken(eos, (f"{begins} token {eos}, which ends texts",))
    return FirstToken(None, (f"{begins} random tokens; there is no EOS either",))


def sample_batch(
    model: Model,
    nsamples: int,
    seqlen: int,
    seed: int,
    *,
    bos_id: int | None = None,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> TokenIds:
    """Text that the model writes itself, from one token on at temperature 1.

    An end-of-text token is a token like any other: the sequence goes on. The result depends on
    ``nsamples``, ``seqlen`` and ``seed``, never on ``threads``. Memory: the model in the type it
    is stored in, and the keys and values of all sequences.

    Parameters
    ----------
    model : Model
    nsamples, seqlen : int
        Sequences, and tokens in each, the first one included.
    seed : int
        Each sequence has a random stream of its own, spawned from it.
    bos_id : int or None
        First token; None takes the configuration's, or a random one for each sequence where it
        names none.
    threads : int or None
        Batches of `BATCH` sequences that run at the same time.
    progress : Progress

    Returns
    -------
    (nsamples, seqlen) int32

    Raises
    ------
    SpecError
        When ``seqlen`` exceeds the model's context.
    NumericalError
        When the model's logits are not finite.
    """
    if nsamples < 1 or not 1 <= seqlen <= model.context:
        raise SpecError(
            f"cannot sample {nsamples} sequences of {seqlen} tokens from a model with a context "
            f"of {model.context}"
        )
    model = model.as_stored()
    streams = np.random.SeedSequence(seed).spawn(nsamples)
    draws = np.stack([np.random.default_rng(s).random(seqlen) for s in streams])
    bos = model.bos_id if bos_id is None else bos_id
    # The last draw of a sequence chooses none of the tokens after the first.
    last = model.vocab_size - 1
    ids = np.empty((nsamples, seqlen), np.int32)
    ids[:, 0] = np.minimum(draws[:, -1] * (last + 1), last) if bos is None else bos
    batches = [_Batch(model, ids[part], draws[part]) for part in chunks(nsamples, BATCH)]
    workers = resolve_threads(threads)
    with progress.bar("sampling", nsamples * (seqlen - 1), "token") as advance:
        for part in chunks(seqlen - 1, ROUND):
            for tokens in ordered_map(methodcaller("run", part), batches, workers):
                advance(tokens)
    return ids


class _Batch:
    """Sequences that advance together; ``ids`` (B, seqlen) is filled in place (work)."""

    def __init__(self, model: Model, ids: TokenIds, draws: NDArray[np.float64]) -> None:
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
    largest = logits.max(axis=-1, keepdims=True)
    check_logits(largest)
    logits -= largest
    weights = np.exp(logits, out=logits)
    starts = np.arange(0, weights.shape[1], _BLOCK)
    blocks = np.add.reduceat(weights, starts, axis=1, dtype=np.float64)
    chosen = np.empty(len(draws), np.intp)
    for row, u in enumerate(draws):
        mass = np.cumsum(blocks[row])
        target = u * mass[-1]
        block = invert(mass, target)
        inside = np.cumsum(weights[row, starts[block] : starts[block] + _BLOCK], dtype=np.float64)
        left = target - (mass[block] - blocks[row, block])
        chosen[row] = starts[block] + invert(inside, left)
    return chosen
