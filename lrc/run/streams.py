"""Several texts on one model, each in its own cache, advanced together where that is faster."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import SILENT, Progress
from lrc.base.threads import single_threaded_blas
from lrc.models.base import Model
from lrc.nn.engine.team import Team
from lrc.nn.execution import Execution
from lrc.run.generate import Decoder
from lrc.run.sampler import Logits

#: Texts from which on one step of all is faster than a step of each.
BATCHED = 4


class Stream:
    """A cache, and which tokens it has: another text may go on from those that it shares.

    Parameters
    ----------
    decoder : Decoder
        Of this stream alone.

    Attributes
    ----------
    ids : list of int
        Tokens in the cache.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.decoder = decoder
        self.ids: list[int] = []

    def common(self, prompt: Sequence[int]) -> int:
        """How many tokens of a prompt need not be read again; the last one is always read."""
        pairs = zip(self.ids, prompt[:-1], strict=False)
        same = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
        length = min(len(self.ids), len(prompt) - 1) if same is None else same
        cache = self.decoder.cache
        # An error may have left tokens in the cache that are not known here.
        return length if cache.length == len(self.ids) and cache.can_rewind(length) else 0

    def begin(self, prompt: Sequence[int], *, reuse: bool = True) -> int:
        """Forget all but what is common with a prompt; return how many tokens that are."""
        length = self.common(prompt) if reuse else 0
        self.decoder.cache.rewind(length)
        del self.ids[length:]
        return length

    def read(self, ids: Sequence[int]) -> Logits:
        """Logits (vocab,) after some more tokens; valid until the next call."""
        logits = self.decoder.advance(np.asarray(ids))
        self.ids += ids
        return logits

    def outputs(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Residual streams (T, hidden) of some more tokens."""
        rows = self.decoder.outputs(np.asarray(ids))
        self.ids += ids
        return rows


class Streams:
    """As many streams as texts are worked on at the same time; one thread uses them.

    Parameters
    ----------
    model : Model
    count : int
        Streams.
    capacity : int
        Most tokens of a text.
    threads : int
        Threads that share the work.
    activations : str
        "i8" or "f32"; see `lrc.run.generate.generate`.
    batch : bool
        Whether texts may be advanced together. What comes of each then depends a little on how
        many there are: together they are multiplied on 15-bit activations.
    progress : Progress

    Attributes
    ----------
    streams : tuple of Stream
    """

    def __init__(
        self,
        model: Model,
        count: int,
        capacity: int,
        threads: int = 1,
        activations: str = "i8",
        *,
        batch: bool = True,
        progress: Progress = SILENT,
    ) -> None:
        self._model, self._team, self._progress = model, Team(threads), progress
        self.streams = tuple(
            Stream(Decoder(model, capacity, self._team, activations, progress))
            for _ in range(count)
        )
        together = batch and activations == "i8" and count >= BATCHED
        self._batch = model.engines().batch(self._team) if together else None

    @property
    def batches(self) -> bool:
        """Whether many texts are advanced together."""
        return self._batch is not None

    @property
    def nbytes(self) -> int:
        """Bytes of the keys, values and states of all texts, once they are as long as can be."""
        return sum(stream.decoder.cache.nbytes for stream in self.streams)

    def step(self, streams: Sequence[Stream], tokens: Sequence[int]) -> Sequence[Logits]:
        """Logits (vocab,) of each stream after one more token; valid until the next call."""
        if self._batch is None or len(streams) < BATCHED:
            return [s.read([token]) for s, token in zip(streams, tokens, strict=True)]
        caches = [stream.decoder.cache for stream in streams]
        start = [
            self._model.embed(np.array([token]), cache.length)[0]
            for token, cache in zip(tokens, caches, strict=True)
        ]
        with single_threaded_blas():
            rows = self._batch.step(np.stack(start), caches, self._progress)
            logits = self._model.head(rows, Execution(self._team, True))
        for stream, token in zip(streams, tokens, strict=True):
            stream.ids.append(token)
        return list(logits)

    def head(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (T, vocab) of residual streams (T, hidden), exact."""
        return self._model.head(rows, Execution(self._team))
