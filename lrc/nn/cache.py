"""What the tokens seen so far leave to later ones: keys and values, or states of a fixed size."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lrc.errors import SpecError

Array = NDArray[np.float32]


class KVCache:
    """Preallocated keys and values of every layer, and states that layers carry along.

    A block writes its new keys and values with `append`, and its new states with `carry`; whoever
    ran all the blocks then calls `advance` once. Until then, the same tokens may be run again.
    A cache belongs to one thread.

    Parameters
    ----------
    layers, batch, kv_heads, max_length, head_dim : int
        Each layer holds two float32 arrays (batch, kv_heads, max_length, head_dim).
    states : mapping, optional
        Shapes of the states of one sequence, by name; each is zero before a text.
    """

    def __init__(
        self,
        layers: int,
        batch: int,
        kv_heads: int,
        max_length: int,
        head_dim: int,
        states: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        shape = (batch, kv_heads, max_length, head_dim)
        self.states = {k: np.zeros((batch, *s), np.float32) for k, s in (states or {}).items()}
        self._next: dict[str, Array] = {}
        self.keys = [np.empty(shape, np.float32) for _ in range(layers)]
        self.values = [np.empty(shape, np.float32) for _ in range(layers)]
        self.max_length = max_length
        self.length = 0

    def append(self, layer: int, k: Array, v: Array) -> tuple[Array, Array]:
        """Store new tokens of one layer behind those counted by ``length``.

        Parameters
        ----------
        layer : int
        k, v : (batch, T, kv_heads, head_dim) float32

        Returns
        -------
        k, v : (batch, kv_heads, length + T, head_dim) float32
            Views of everything stored, the new tokens included.

        Raises
        ------
        SpecError
            When the new tokens do not fit.
        """
        start, end = self.length, self.length + k.shape[1]
        if end > self.max_length:
            raise SpecError(
                f"the cache holds {self.max_length} tokens and {end} are needed; "
                "make it longer or the text shorter"
            )
        keys, values = self.keys[layer], self.values[layer]
        keys[:, :, start:end] = k.transpose(0, 2, 1, 3)
        values[:, :, start:end] = v.transpose(0, 2, 1, 3)
        return keys[:, :, :end], values[:, :, :end]

    def carry(self, name: str, state: Array) -> None:
        """Keep what the tokens behind those counted by ``length`` leave in place of a state."""
        self._next[name] = state

    def advance(self, tokens: int) -> None:
        """Count ``tokens`` that every layer has now stored."""
        self.length += tokens
        self.states |= self._next
        self._next = {}
