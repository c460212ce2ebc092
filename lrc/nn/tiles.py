"""How work on tokens is done: on how many threads, and on which activations.

Tiles have a fixed size, so that no bit depends on the threads.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from lrc.threads import chunks, single_threaded_blas

T = TypeVar("T")

_POOL: contextvars.ContextVar[ThreadPoolExecutor | None] = contextvars.ContextVar(
    "lrc_tile_threads", default=None
)
_TILED: contextvars.ContextVar[bool] = contextvars.ContextVar("lrc_tiled", default=False)
_INTEGERS: contextvars.ContextVar[bool] = contextvars.ContextVar("lrc_integers", default=False)


@contextlib.contextmanager
def tile_threads(threads: int) -> Iterator[None]:
    """Let `each_tile` use this many threads within the block; BLAS itself uses one."""
    with single_threaded_blas(), contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(threads)) if threads > 1 else None
        token, tiled = _POOL.set(pool), _TILED.set(True)
        try:
            yield
        finally:
            _POOL.reset(token)
            _TILED.reset(tiled)


def row_tiles(m: int, unit: int = 16) -> list[slice]:
    """Tiles of about equal height that cover ``m`` rows: multiples of ``unit``, 512 at most.

    Four or a multiple of it where there are enough rows, so that few threads share them evenly.
    """
    count = 4 * -(-m // 2048) if m >= 256 else 2
    return chunks(m, -(-m // (count * unit)) * unit)


def in_tiles() -> bool:
    """Whether this is within a block of `tile_threads`, of one thread or of more."""
    return _TILED.get()


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
    pool = _POOL.get()
    if pool is None or len(tiles) == 1:
        for tile in tiles:
            work(tile)
        return
    for _ in pool.map(work, tiles):
        pass
