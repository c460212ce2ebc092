"""Texts of many requests, several at a time, as a server makes them; without a server."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import partial
from queue import SimpleQueue

from lrc.run.load import LoadedModel
from lrc.run.server.jobs import Ask, Event, Failure, Job, Piece
from lrc.run.server.options import ServeOptions
from lrc.run.server.scheduler import Scheduler


def texts_together(
    loaded: LoadedModel,
    asks: Sequence[Ask],
    options: ServeOptions,
    threads: int | None,
    activations: str,
) -> Iterator[tuple[int, str]]:
    """Numbers of what is asked for, as it is done, and the texts.

    Parameters
    ----------
    options : ServeOptions
        How many are made at the same time, and how long they may be.
    threads, activations
        As of `lrc.run.generate.generate`.
    """
    told: SimpleQueue[tuple[int, Event]] = SimpleQueue()
    allowed = dataclasses.replace(options, waiting=len(asks))
    scheduler = Scheduler(loaded, allowed, threads=threads, activations=activations)
    pieces: dict[int, list[str]] = {i: [] for i in range(len(asks))}
    try:
        scheduler.submit([Job(ask, partial(_tell, told, i)) for i, ask in enumerate(asks)])
        while pieces:
            i, event = told.get()
            if isinstance(event, Failure):
                raise event.error
            if isinstance(event, Piece):
                pieces[i].append(event.text)
            else:
                yield i, "".join(pieces.pop(i))
    finally:
        scheduler.stop()


def _tell(told: SimpleQueue[tuple[int, Event]], number: int, event: Event) -> None:
    told.put((number, event))
