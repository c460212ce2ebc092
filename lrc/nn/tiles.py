"""How work on tokens is done: on how many threads, and on which activations.

Tiles have a fixed size, so that no bit depends on the threads.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from lrc.base.threads import single_threaded_blas
from lrc.nn.engine.team import Team

T = TypeVar("T")

_TEAM: contextvars.ContextVar[Team | None] = contextvars.ContextVar(
    "lrc_tile_threads", default=None
)
_INTEGERS: contextvars.ContextVar[bool] = contextvars.ContextVar("lrc_integers", default=False)


@contextlib.contextmanager
def tile_threads(team: Team) -> Iterator[None]:
    """Let `each_tile` use these threads within the block; BLAS itself uses one."""
    with single_threaded_blas():
        token = _TEAM.set(team)
        try:
            yield
        finally:
            _TEAM.reset(token)


def in_tiles() -> bool:
    """Whether this is within a block of `tile_threads`, of one thread or of more."""
    return _TEAM.get() is not None


@contextlib.contextmanager
def integer_activations(allowed: bool) -> Iterator[None]:
    """Say within the block whether packed layers may round a single token to 15 bits."""
    token = _INTEGERS.set(allowed)
    try:
        yield
    finally:
        _INTEGERS.reset(token)


def integers_allowed() -> bool:
    """Whether this is within a block of `integer_activations`; False elsewhere."""
    return _INTEGERS.get()


def each_tile(work: Callable[[T], object], tiles: Sequence[T]) -> None:
    """Call ``work`` on every tile, on the threads of `tile_threads` or here."""
    team = _TEAM.get()
    if team is None:
        for tile in tiles:
            work(tile)
    else:
        team.each(work, tiles)
