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
from lrc.run.stream import Stream

#: Texts from which on one step of all is faster than a step of each.
BATCHED = 4
#: Most tokens that several texts are read by together.
TOGETHER = 512


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
        "i8", "i15" or "f32"; see `lrc.run.generate.generate`.
    batch : bool
        Whether texts may be advanced together. What comes of each then depends a little on how
        many there are: together they are multiplied on 15-bit activations.
    kv_bits : int
        As of `lrc.run.generate.generate`.
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
        kv_bits: int = 0,
        progress: Progress = SILENT,
    ) -> None:
        self._model, self._team, self._progress = model, Team(threads), progress
        self.streams = tuple(
            Stream(Decoder(model, capacity, self._team, activations, progress, kv_bits=kv_bits))
            for _ in range(count)
        )
        together = batch and activations != "f32" and count >= BATCHED
        self._batch = model.engines().batch(self._team) if together else None

    @property
    def batches(self) -> bool:
        """Whether many texts are advanced together."""
        return self._batch is not None

    @property
    def nbytes(self) -> int:
        """Bytes of the keys, values and states of all texts, once they are as long as can be."""
        return sum(stream.decoder.cache.nbytes for stream in self.streams)

    def takes_together(self, count: int) -> bool:
        """Whether so many texts are advanced together."""
        return self._batch is not None and count >= BATCHED

    def step(self, streams: Sequence[Stream], tokens: Sequence[int]) -> Sequence[Logits]:
        """Logits (vocab,) of each stream after one more token; valid until the next call."""
        if self._batch is None or not self.takes_together(len(streams)):
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

    def outputs(
        self, streams: Sequence[Stream], ids: Sequence[Sequence[int]]
    ) -> list[NDArray[np.float32]]:
        """Residual streams (T, hidden) of some more tokens of each stream: its ``ids``.

        They are read together where they fit and that can be; it changes them by rounding alone.
        """
        counts = [len(own) for own in ids]
        fits = all(n <= s.decoder.cache.most for n, s in zip(counts, streams, strict=True))
        if self._batch is None or len(streams) == 1 or sum(counts) > TOGETHER or not fits:
            return [stream.outputs(own) for stream, own in zip(streams, ids, strict=True)]
        caches = [stream.decoder.cache for stream in streams]
        start = [
            self._model.embed(np.asarray(own), cache.length)
            for own, cache in zip(ids, caches, strict=True)
        ]
        with single_threaded_blas():
            rows = self._batch.read(np.concatenate(start), counts, caches, self._progress)
        for stream, own in zip(streams, ids, strict=True):
            stream.ids += own
        return np.split(rows.copy(), np.cumsum(counts)[:-1])

    def head(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (T, vocab) of residual streams (T, hidden), exact."""
        return self._model.head(rows, Execution(self._team))
