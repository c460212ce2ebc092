"""Continuing a prompt, token by token."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import SILENT, Progress
from lrc.base.threads import resolve_threads, single_threaded_blas
from lrc.errors import SpecError
from lrc.models.base import Model
from lrc.nn.engine.team import Team
from lrc.nn.execution import Execution
from lrc.run.lookup import Lookup, check_lookup, continued, refuse_states
from lrc.run.sampler import Chooser, Logits, Sampler
from lrc.run.stream import Stream

if TYPE_CHECKING:
    from lrc.run.schema import Constraint

#: What a compressed model may be fed with; see `generate`.
ACTIVATIONS = ("i8", "i15", "f32")
#: Tokens up to which stepping is faster than the model's blocks, or than its prompt engine.
STEPPED, STEPPED_BY_ENGINE = 12, 2


def generate(
    model: Model,
    prompt_ids: Sequence[int] | NDArray[np.integer],
    max_new_tokens: int,
    sampler: Sampler | None = None,
    eos_ids: Collection[int] = (),
    *,
    threads: int | None = 1,
    activations: str = "i8",
    lookup: int = 0,
    kv_bits: int = 0,
    constraint: Constraint | None = None,
    progress: Progress = SILENT,
) -> Iterator[int]:
    """Continue a prompt token by token.

    Parameters
    ----------
    model : Model
    prompt_ids : sequence of int
        At least one id.
    max_new_tokens : int
    sampler : Sampler or None
        None is greedy.
    eos_ids : collection of int
        Ids that end the text; they are not yielded. Without any, the text goes on to
        ``max_new_tokens``: give those of the model's tokenizer, or use
        `lrc.load.LoadedModel.generate`, which does.
    threads : int or None
        Threads that share each token of a compressed model; None is every processor. The text
        does not depend on it.
    activations : str
        "i8": compressed models decode on integer activations (int8 in groups of 64, and pairs of
        int8, 15 bits, where the inputs are too uneven for one);
        "i15": on pairs of int8 always, as several tokens are, so that it is the same to read them
        one by one or together;
        "f32": on float32 ones, which is exact and much slower.
    lookup : int
        Most tokens that are read ahead where the last ones have been in the text before
        (:mod:`lrc.run.lookup`); 0 is none. Integers are then those of "i15".
    kv_bits : int
        8 or 4: keys and values of the text are rotated and kept in so many bits
        (:mod:`lrc.nn.kept_codes`), for less memory; 0: in float32.
    constraint : Constraint or None
        Which tokens may come (:mod:`lrc.run.schema`), from the beginning of what is made.
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
        fit the model's context together with ``max_new_tokens``; or when tokens are to be looked
        up with a model that cannot take them back.
    """
    prompt = np.asarray(prompt_ids, dtype=np.int64)
    if prompt.ndim != 1 or len(prompt) == 0:
        raise SpecError("the prompt has no tokens; give some text")
    if max_new_tokens < 1:
        raise SpecError(f"max_new_tokens={max_new_tokens} must be at least 1")
    limit = model.context
    if len(prompt) + max_new_tokens > limit:
        raise SpecError(
            f"the prompt's {len(prompt)} tokens and {max_new_tokens} new ones exceed the model's "
            f"context of {limit}; shorten the prompt or ask for fewer tokens"
        )
    if activations not in ACTIVATIONS:
        raise SpecError(f"activations={activations!r} must be one of {', '.join(ACTIVATIONS)}")
    workers = resolve_threads(threads)
    model.check_ids(prompt)
    sampler = sampler or Sampler()
    sampler.check_ids(model.vocab_size)
    check_lookup(lookup)
    refuse_states(model, lookup)
    decoder = Decoder(
        model, len(prompt) + max_new_tokens - 1, workers, read_as(activations, lookup), progress,
        kv_bits=kv_bits,
    )  # fmt: skip
    ids = prompt.tolist()
    return continued(
        Stream(decoder), Chooser(sampler, ids, constraint), ids, max_new_tokens, frozenset(eos_ids),
        Lookup(lookup, ids),
    )  # fmt: skip


def read_as(activations: str, lookup: int) -> str:
    """The activations where so many tokens are looked up: alike for one and for several."""
    return "i15" if lookup and activations == "i8" else activations


class Decoder:
    """One sequence of a model, advanced token by token.

    A compressed model decodes single tokens with `lrc.nn.engine.decode`, and works through longer
    stretches with `lrc.nn.engine.prompt` where it can; else these, dense models and float32
    activations go through the model's blocks.

    Parameters
    ----------
    model : Model
    capacity : int
        Most tokens that will be seen.
    threads : int or Team
        Threads that share a token. Decoders that one thread advances may have the same team.
    activations : str
        "i8", "i15" or "f32".
    progress : Progress
    kv_bits : int
        8 or 4: keys and values are kept in so many bits; 0: in float32.

    Attributes
    ----------
    cache : KVCache
        Of the sequence. It may be rewound between two calls.
    """

    def __init__(
        self,
        model: Model,
        capacity: int,
        threads: int | Team = 1,
        activations: str = "i8",
        progress: Progress = SILENT,
        *,
        kv_bits: int = 0,
    ) -> None:
        self._model = model
        self._team = threads if isinstance(threads, Team) else Team(threads)
        cache = model.new_cache(1, capacity)
        self.cache = cache.coded(kv_bits) if kv_bits else cache
        integers, engines = activations != "f32", model.engines()
        fine = activations == "i15"
        self._engine = engines.decode(self._team, fine=fine) if integers else None
        self._prompt = engines.prompt(self._team) if integers else None
        self._stepped = STEPPED if self._prompt is None else STEPPED_BY_ENGINE
        self._progress = progress
        if self._engine is not None:
            from lrc.nn.engine.decode import announce_compilation

            announce_compilation(progress)

    def advance(self, ids: NDArray[np.integer]) -> Logits:
        """Logits (vocab,) after the tokens ``ids`` (T,); valid until the next call."""
        if self._engine is None or len(ids) > self._stepped:
            return self._by_blocks(ids)
        rows = self._model.embed(ids, self.cache.length)
        for row in rows[:-1]:
            self._engine.step(row, self.cache, head=False)
        return self._engine.step(rows[-1], self.cache)

    def advance_each(self, ids: NDArray[np.integer]) -> NDArray[np.float32]:
        """Logits (T, vocab) after each of the tokens ``ids`` (T,), which are read together."""
        rows = self.outputs(ids)
        with single_threaded_blas():
            return self._model.head(rows, Execution(self._team, self._engine is not None))

    def outputs(self, ids: NDArray[np.integer]) -> NDArray[np.float32]:
        """Residual streams (T, hidden) of the tokens ``ids`` (T,), for `Model.head`."""
        with single_threaded_blas():
            if self._prompt is None:
                found = self._model.hidden(ids[None], self.cache, Execution(self._team))
                rows: NDArray[np.float32] = found[0]
                return rows
            start = self._model.embed(ids, self.cache.length)
            return self._prompt.outputs(start, self.cache, self._progress)

    def _by_blocks(self, ids: NDArray[np.integer]) -> Logits:
        with single_threaded_blas():
            last = self._last_hidden(ids)
            integers = self._engine is not None
            return self._model.head(last, Execution(self._team, integers))

    def _last_hidden(self, ids: NDArray[np.integer]) -> NDArray[np.float32]:
        """The last token's residual stream (hidden,) after the tokens ``ids`` (T,)."""
        if self._prompt is None:
            hidden = self._model.hidden(ids[None], self.cache, Execution(self._team))
            last: NDArray[np.float32] = hidden[0, -1]
            return last
        start = self._model.embed(ids, self.cache.length)
        return self._prompt.advance(start, self.cache, self._progress)
