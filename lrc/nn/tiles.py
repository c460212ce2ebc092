"""Threads for work on many tokens: tiles of fixed size, so that no bit depends on the threads."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from lrc.threads import single_threaded_blas

T = TypeVar("T")

_POOL: contextvars.ContextVar[ThreadPoolExecutor | None] = contextvars.ContextVar(
    "lrc_tile_threads", default=None
)


@contextlib.contextmanager
def tile_threads(threads: int) -> Iterator[None]:
    """Let `each_tile` use this many threads within the block; BLAS itself uses one."""
    with single_threaded_blas(), contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(threads)) if threads > 1 else None
        token = _POOL.set(pool)
        try:
            yield
        finally:
            _POOL.reset(token)


def each_tile(work: Callable[[T], object], tiles: Sequence[T]) -> None:
    """Call ``work`` on every tile, on the threads of `tile_threads` or here."""
    pool = _POOL.get()
    if pool is None or len(tiles) == 1:
        for tile in tiles:
            work(tile)
        return
    for _ in pool.map(work, tiles):
        pass
