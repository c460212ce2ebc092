"""Random weights of any model family, and a source that holds them in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.errors import FormatError
from lrc.formats.view import View, stored_shapes
from lrc.models.tensors import Matrix, Table, Tensors
from lrc.models.views import first_views


def random_weights(tensors: Tensors, seed: int) -> dict[str, NDArray[np.float32]]:
    """Random values for every tensor that is read, in its order; the same for the same seed.

    They lie where the family's first layout has them.
    """
    rng = np.random.default_rng(seed)

    def values(name: str) -> NDArray[np.float32]:
        role, shape = tensors.role(name), tensors.shape(name)
        if isinstance(role, Matrix | Table):
            table = (rng.standard_normal(shape) / np.sqrt(shape[1])).astype(np.float32)
            return table * np.float32(1.5) if isinstance(role, Matrix) else table
        if len(shape) > 2:  # of a convolution
            return rng.normal(0, math.prod(shape[1:]) ** -0.5, shape).astype(np.float32)
        if name.endswith(("dt_proj.bias", "dt_bias")):  # step sizes are well below one
            return rng.normal(-3, 1, shape).astype(np.float32)
        if name.endswith(".bias"):
            return rng.normal(0, 0.3, shape).astype(np.float32)
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)

    views = first_views(tensors)
    shapes = stored_shapes(views, tensors.shape)
    stored = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    for name, view in views.items():
        view.put(values(name), stored[view.stored])
    return stored


class MemorySource:
    """A weight source in memory."""

    is_as_read = False

    def __init__(self, config: dict[str, Any], weights: dict[str, NDArray[np.float32]]) -> None:
        self.config = config
        self.weights = weights
        self.path = Path("memory")

    def reading(self, views: Mapping[str, View]) -> MemorySource:
        """Views of the same arrays."""
        own = {name: view.of(self.weights[view.stored]) for name, view in views.items()}
        view = MemorySource(self.config, own)
        view.is_as_read = True
        return view

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.weights))

    def shape(self, name: str) -> tuple[int, ...]:
        return self.weights[name].shape

    def has(self, name: str) -> bool:
        return name in self.weights

    def dense(self, name: str) -> NDArray[np.float32]:
        if name not in self.weights:
            raise FormatError(f"tensor {name} is missing")
        return self.weights[name]

    linear = dense
