"""Keys and values of the tokens seen so far."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc.errors import SpecError

Array = NDArray[np.float32]


class KVCache:
    """Preallocated keys and values of every layer.

    A block writes its new keys and values with `append`; whoever ran all the blocks then calls
    `advance` once. A cache belongs to one thread.

    Parameters
    ----------
    layers, batch, kv_heads, max_length, head_dim : int
        Each layer holds two float32 arrays (batch, kv_heads, max_length, head_dim).
    """

    def __init__(
        self, layers: int, batch: int, kv_heads: int, max_length: int, head_dim: int
    ) -> None:
        shape = (batch, kv_heads, max_length, head_dim)
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

    def advance(self, tokens: int) -> None:
        """Count ``tokens`` that every layer has now stored."""
        self.length += tokens
