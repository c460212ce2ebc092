"""A weight source, some of whose tensors that are not packed are others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrc.models.source import Array, WeightSource
from lrc.parts.matrix import PackedMatrix


class Overlay:
    """A source with some tensors in place of its own; all else is the source's.

    Parameters
    ----------
    source : WeightSource
        Of a model that is as it is read, such as a compressed one.
    dense : mapping
        Tensors to give in place of those that are stored, by name.
    """

    def __init__(self, source: WeightSource, dense: Mapping[str, Array]) -> None:
        self._source, self._dense = source, dense

    def __getattr__(self, name: str) -> Any:
        """What the source has."""
        return getattr(self._source, name)

    def dense(self, name: str) -> Array:
        """The tensor ``name``, float32."""
        return self._dense[name] if name in self._dense else self._source.dense(name)

    def linear(self, name: str) -> Array | PackedMatrix:
        """The matrix ``name``, as it is held."""
        return self._source.linear(name)
