"""What one layer keeps of the tokens seen so far: keys and values, as numbers or as codes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrc.nn.kept_codes import GROUP, check_bits, decode, encode

Array = NDArray[np.float32]


class KeptLayer(NamedTuple):
    """What one layer keeps.

    Attributes
    ----------
    keys, values : (batch, kv_heads, capacity, head_dim) float32
        Of consecutive tokens; or int8 (..., head_dim bits / 8), codes of :mod:`lrc.nn.kept_codes`.
    begin : int
        Position of the first of them.
    window : int
        Tokens that must stay, counted from a new one, itself included; 0 is all.
    bits : int
        Of a code; 0 without codes.
    scales : tuple of (batch, kv_heads, capacity, head_dim / 32) float32
        Of the keys' codes and of the values'; empty without codes.
    """

    keys: NDArray[Any]
    values: NDArray[Any]
    begin: int
    window: int
    bits: int = 0
    scales: tuple[Array, ...] = ()

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """All that is kept of tokens, along axis 2 of each."""
        return (self.keys, self.values, *self.scales)

    @property
    def head_dim(self) -> int:
        """Numbers of a key."""
        width: int = self.keys.shape[3]
        return width * 8 // self.bits if self.bits else width

    def holding(self, arrays: Sequence[NDArray[Any]], begin: int) -> KeptLayer:
        """The same with other arrays, from another position on."""
        keys, values, *scales = arrays
        return self._replace(keys=keys, values=values, begin=begin, scales=tuple(scales))

    def coded(self, bits: int) -> KeptLayer:
        """An empty layer of the same size, in codes."""
        check_bits(bits, self.head_dim)
        *shape, dim = self.keys.shape
        codes = [np.empty((*shape, dim * bits // 8), np.int8) for _ in range(2)]
        scales = [np.empty((*shape, dim // GROUP), np.float32) for _ in range(2)]
        return KeptLayer(codes[0], codes[1], 0, self.window, bits, (scales[0], scales[1]))

    def stored(self, k: Array, v: Array) -> tuple[NDArray[Any], ...]:
        """Keys and values as `arrays` holds them."""
        if not self.bits:
            return k, v
        (keys, of_keys), (values, of_values) = encode(k, self.bits), encode(v, self.bits)
        return keys, values, of_keys, of_values

    def read(self, arrays: Sequence[NDArray[Any]]) -> tuple[Array, Array]:
        """Keys and values in float32 of what `arrays` holds, or a part of it."""
        if not self.bits:
            return arrays[0], arrays[1]
        keys, values, of_keys, of_values = arrays
        return decode(keys, of_keys, self.bits), decode(values, of_values, self.bits)

    @property
    def most(self) -> int:
        """New tokens that find room together, however many are there."""
        capacity: int = self.keys.shape[2]
        return capacity - max(0, self.window - 1)
