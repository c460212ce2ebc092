"""What the tokens seen so far leave to later ones: keys and values, or states of a fixed size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from lrc.errors import SpecError
from lrc.nn.kept_layer import KeptLayer

Array = NDArray[np.float32]

#: Tokens that a layer with a window has room for beside those of the window, so that what it keeps
#: moves but once in so many tokens.
SPARE = 512


class _Now(NamedTuple):
    layers: tuple[KeptLayer, ...]
    states: Mapping[str, Array]
    length: int


class KVCache:
    """Preallocated keys and values of every layer, and states that layers carry along.

    A block writes its new keys and values with `append`, and its new states with `carry`; whoever
    ran all the blocks then calls `advance` once. Until then, the same tokens may be run again.
    A cache belongs to one thread.

    Parameters
    ----------
    layers, batch, kv_heads, max_length, head_dim : int
        Each layer holds two float32 arrays (batch, kv_heads, max_length, head_dim).
    windows : sequence of int
        How many tokens one of each layer sees, itself included; 0 is all, and so is nothing at
        all. Where it is not, the arrays have room for a window and `SPARE` tokens, and what no
        later token sees makes room for the next ones.
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
        windows: Sequence[int] = (),
        states: Mapping[str, tuple[int, ...]] | None = None,
    ) -> None:
        def kept(window: int) -> KeptLayer:
            slides = 0 < window < max_length - SPARE
            capacity = window + SPARE if slides else max_length
            shape = (batch, kv_heads, capacity, head_dim)
            k, v = np.empty(shape, np.float32), np.empty(shape, np.float32)
            return KeptLayer(k, v, 0, window if slides else 0)

        self.max_length = max_length
        carried = {k: np.zeros((batch, *s), np.float32) for k, s in (states or {}).items()}
        # One value, so that an interrupt finds all of it changed or nothing.
        self._now = _Now(tuple(kept(window) for window in windows or [0] * layers), carried, 0)
        self._moved: dict[int, KeptLayer] = {}
        self._next: dict[str, Array] = {}

    @property
    def layers(self) -> tuple[KeptLayer, ...]:
        """What each layer keeps; another tuple when one of them has moved."""
        return self._now.layers

    @property
    def states(self) -> Mapping[str, Array]:
        """States after the tokens that are counted, (batch, ...) each."""
        return self._now.states

    @property
    def length(self) -> int:
        """Tokens that are counted."""
        return self._now.length

    @property
    def nbytes(self) -> int:
        """Bytes of all keys, values and states that there is room for."""
        states = sum(state.nbytes for state in self.states.values())
        return states + sum(array.nbytes for layer in self.layers for array in layer.arrays)

    @property
    def bits(self) -> int:
        """Of a key's or a value's number; 0 is float32."""
        return max((layer.bits for layer in self.layers), default=0)

    def coded(self, bits: int) -> Self:
        """An empty cache of the same size whose keys and values are codes of 8 or 4 bits.

        Raises
        ------
        SpecError
            There are no such codes, or it has no keys and values.
        """
        if not self.layers:
            raise SpecError("this model keeps no keys and values; leave kv_bits out")
        made = self.branch()
        made._now = _Now(tuple(layer.coded(bits) for layer in self.layers), made.states, 0)
        return made

    @property
    def most(self) -> int:
        """How many tokens find room together, however many are there."""
        return min((layer.most for layer in self.layers), default=self.max_length)

    def check(self, tokens: int) -> None:
        """Refuse ``tokens`` more than the cache is made for.

        Raises
        ------
        SpecError
            With both numbers.
        """
        if self.length + tokens > self.max_length:
            raise SpecError(
                f"the cache holds {self.max_length} tokens and {self.length + tokens} are needed; "
                "make it longer or the text shorter"
            )

    def reserve(self, tokens: int) -> None:
        """Let every layer have room for ``tokens`` more, at most `most`.

        Raises
        ------
        SpecError
            When the cache is not made for so many.
        """
        self.check(tokens)
        self._moved = {}
        if any(self._is_short(layer, tokens) for layer in self.layers):
            layers = (
                self._slid(layer) if self._is_short(layer, tokens) else layer
                for layer in self.layers
            )
            self._now = self._now._replace(layers=tuple(layers))

    def append(self, layer: int, k: Array, v: Array, window: int = 0) -> tuple[Array, Array]:
        """Store new tokens of one layer behind those counted by ``length``.

        Parameters
        ----------
        layer : int
        k, v : (batch, T, kv_heads, head_dim) float32
        window : int
            How many tokens one sees, itself included; 0 is all.

        Returns
        -------
        k, v : (batch, kv_heads, S, head_dim) float32
            All that is stored or that the new tokens see, these included; S is at most
            ``length + T``.

        Raises
        ------
        SpecError
            When the new tokens do not fit, or see more than the layer keeps.
        """
        self.check(k.shape[1])
        kept = self.layers[layer]
        if kept.window and not 0 < window <= kept.window:
            raise SpecError(
                f"layer {layer} of the cache keeps {kept.window} tokens, and this model sees "
                f"{window or 'all'} there; make one with its new_cache"
            )
        k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)
        if kept.window and k.shape[2] > kept.most:
            return self._append_many(layer, k, v)
        self._moved.pop(layer, None)
        if self._is_short(kept, k.shape[2]):
            kept = self._slid(kept)
            others = self.layers
            moved = (*others[:layer], kept, *others[layer + 1 :])
            self._now = self._now._replace(layers=moved)
        start, end = self.length - kept.begin, self.length - kept.begin + k.shape[2]
        for array, new in zip(kept.arrays, kept.stored(k, v), strict=True):
            array[:, :, start:end] = new
        return kept.read([array[:, :, :end] for array in kept.arrays])

    def carry(self, name: str, state: Array) -> None:
        """Keep what the tokens behind those counted by ``length`` leave in place of a state."""
        self._next[name] = state

    def advance(self, tokens: int) -> None:
        """Count ``tokens`` that every layer has now stored."""
        layers, states, length = self._now
        if self._moved:
            layers = tuple(self._moved.get(i, layer) for i, layer in enumerate(layers))
        if self._next:
            states = {**states, **self._next}
        self._now = _Now(layers, states, length + tokens)
        self._moved, self._next = {}, {}

    def branch(self) -> Self:
        """The same tokens, to be continued before this cache knows of it; see `adopt`.

        Of the two, one alone may go on: behind the tokens that they share there is one memory.
        """
        made = copy(self)
        made._moved, made._next = {}, {}
        # What was a state may be written to later.
        states = {name: state.copy() for name, state in self.states.items()}
        made._now = self._now._replace(states=states)
        return made

    def adopt(self, branch: KVCache) -> None:
        """Take over, at once, what a `branch` has stored and counted."""
        self._now = branch._now

    def can_rewind(self, length: int) -> bool:
        """Whether what later tokens need of the first ``length`` is there; states are not."""
        if length in (0, self.length):
            return True
        sees = all(
            layer.begin <= max(0, length + 1 - layer.window)
            for layer in self.layers
            if layer.window
        )
        return 0 < length < self.length and not self.states and sees

    def rewind(self, length: int) -> None:
        """Forget all tokens but the first ``length``.

        Raises
        ------
        SpecError
            When `can_rewind` says no.
        """
        if not self.can_rewind(length):
            raise SpecError(
                f"the cache has {self.length} tokens and cannot go back to the first {length}; "
                "go back to none"
            )
        layers, states, _ = self._now
        if length == 0:
            layers = tuple(layer._replace(begin=0) for layer in layers)
            states = {name: np.zeros_like(state) for name, state in states.items()}
        self._now = _Now(layers, states, length)
        self._moved, self._next = {}, {}

    def _append_many(self, layer: int, k: Array, v: Array) -> tuple[Array, Array]:
        """The same for more tokens than there is room for: the last ones will be kept."""
        kept = self.layers[layer]
        last = slice(max(kept.begin, self.length + 1 - kept.window) - kept.begin,
                     self.length - kept.begin)  # fmt: skip
        whole = [
            np.concatenate([old[:, :, last], new], axis=2)
            for old, new in zip(kept.arrays, kept.stored(k, v), strict=True)
        ]
        count, found = whole[0].shape[2], list[NDArray[Any]]()
        stay = min(count, kept.window - 1)
        for old, new in zip(kept.arrays, whole, strict=True):
            found.append(np.empty_like(old))
            found[-1][:, :, :stay] = new[:, :, count - stay :]
        begin = self.length + k.shape[2] - stay
        self._moved[layer] = kept.holding(found, begin)
        return kept.read(whole)

    def _slid(self, layer: KeptLayer) -> KeptLayer:
        """A layer without what no token behind ``length`` sees."""
        begin = max(layer.begin, self.length + 1 - layer.window)
        start, end = begin - layer.begin, self.length - layer.begin
        found = [np.empty_like(array) for array in layer.arrays]
        for array, old in zip(found, layer.arrays, strict=True):
            array[:, :, : end - start] = old[:, :, start:end]
        return layer.holding(found, begin)

    def _is_short(self, layer: KeptLayer, tokens: int) -> bool:
        return layer.window > 0 and self.length + tokens - layer.begin > layer.keys.shape[2]
