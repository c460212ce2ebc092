"""States of a cache around tokens: where they are before them, and memory for those after them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lrc.nn.cache import KVCache


class StateBuffers:
    """Memory that takes turns with that of the cache, so that tokens may be run again.

    Parameters
    ----------
    names : sequence of str
        Of the states, in the order of the addresses.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._known: Mapping[str, NDArray[np.float32]] | None = None
        self._after: dict[str, NDArray[np.float32]] = {}
        self._addresses = np.zeros((len(names), 2), np.int64)

    def addresses(self, cache: KVCache) -> NDArray[np.int64]:
        """Addresses of the states before the next tokens, and of those after them: (states, 2)."""
        before = cache.states
        if before is not self._known:
            self._after = {name: np.empty_like(before[name]) for name in self._names}
            pairs = [(before[n].ctypes.data, self._after[n].ctypes.data) for n in self._names]
            self._addresses = np.array(pairs, np.int64).reshape(-1, 2)
            self._known = before
        return self._addresses

    def advance(self, cache: KVCache, tokens: int = 1) -> None:
        """Count tokens, and what they have left, in the cache."""
        before = cache.states
        for name, state in self._after.items():
            cache.carry(name, state)
        cache.advance(tokens)
        # An interrupt up to here leaves the known ones behind, and new memory is made.
        self._after = {name: before[name] for name in self._names}
        self._addresses = np.ascontiguousarray(self._addresses[:, ::-1])
        self._known = cache.states
