"""Text that a model writes itself, many sequences at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import SILENT, Progress
from lrc.base.threads import chunks, resolve_threads, single_threaded_blas
from lrc.errors import SpecError
from lrc.models.base import Model
from lrc.nn.engine.team import Team
from lrc.nn.execution import Execution
from lrc.run.sampler import Logits, check_logits, invert
from lrc.run.text import TokenIds, Tokenizer

#: Bytes of what sequences that advance together leave to their later tokens: keys, values, states.
#: It decides how many they are, and is part of what decides the text.
CACHE_BYTES = 4 << 30
#: Sequences whose next tokens are drawn together.
ROWS = 16
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
    ``nsamples``, ``seqlen`` and ``seed``, never on ``threads``: these share tiles of a fixed size,
    each the work of one thread and one product of single-threaded BLAS.

    All sequences advance together, so that weights are read once a token of all of them: the time
    is that of products with ``nsamples`` columns. The price is memory: the model in the type it is
    stored in, and the keys, values and states of all sequences, 4 bytes each. Where those take
    more than `CACHE_BYTES`, as many sequences as that holds are written, then the next; the
    weights are then read as many times as often.

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
        Threads that share the work; None is every processor.
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
    execution = Execution(Team(resolve_threads(threads)))
    with progress.bar("sampling", nsamples * (seqlen - 1), "token") as advance:
        for part in _together(model, nsamples, seqlen - 1):
            for chosen in _continued(model, ids[part], draws[part], execution):
                advance(chosen)
    return ids


def _together(model: Model, nsamples: int, tokens: int) -> list[slice]:
    """Sequences that advance together, in parts of about the same size; see `CACHE_BYTES`."""
    each = model.new_cache(1, tokens).nbytes if tokens else 0
    count = -(-nsamples * each // CACHE_BYTES) or 1
    return chunks(nsamples, -(-nsamples // min(count, nsamples)))


def _continued(
    model: Model, ids: TokenIds, draws: NDArray[np.float64], execution: Execution
) -> Iterator[int]:
    """Fill ``ids`` (B, seqlen) (work) from the first column on; tell after each how many they are.

    Parameters
    ----------
    draws : (B, seqlen) float64 in [0, 1)
    """
    batch, seqlen = ids.shape
    if seqlen == 1:
        return
    cache = model.new_cache(batch, seqlen - 1)
    for i in range(seqlen - 1):
        with single_threaded_blas():
            hidden = model.hidden(ids[:, i : i + 1], cache, execution)
            logits = model.head(hidden, execution)[:, 0]
            ids[:, i + 1] = _sampled(logits, draws[:, i], execution)
        yield batch


def _sampled(logits: Logits, draws: NDArray[np.float64], execution: Execution) -> NDArray[np.intp]:
    """`_sample_rows`, a few rows at a time."""
    chosen = np.empty(len(draws), np.intp)

    def tile(rows: slice) -> None:
        chosen[rows] = _sample_rows(logits[rows], draws[rows])

    execution.each(tile, chunks(len(draws), ROWS))
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
    blocks = _block_sums(weights)
    chosen = np.empty(len(draws), np.intp)
    for row, u in enumerate(draws):
        mass = np.cumsum(blocks[row])
        target = u * mass[-1]
        block = invert(mass, target)
        inside = np.cumsum(weights[row, starts[block] : starts[block] + _BLOCK], dtype=np.float64)
        left = target - (mass[block] - blocks[row, block])
        chosen[row] = starts[block] + invert(inside, left)
    return chosen


def _block_sums(weights: Logits) -> NDArray[np.float64]:
    """Sums of `_BLOCK` neighbours in each row, the last ones may be fewer: (B, blocks).

    A reduction of all of them at once would first make a float64 copy of the whole.
    """
    whole = weights.shape[1] // _BLOCK * _BLOCK
    blocks = weights[:, :whole].reshape(len(weights), -1, _BLOCK)
    sums: NDArray[np.float64] = blocks.sum(axis=2, dtype=np.float64)
    if whole == weights.shape[1]:
        return sums
    rest = weights[:, whole:].sum(axis=1, keepdims=True, dtype=np.float64)
    return np.concatenate([sums, rest], axis=1)
