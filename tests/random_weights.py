"""Random weights of any model family, and a source that holds them in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.errors import FormatError
from lrc.models.tensors import Matrix, Table, Tensors


def random_weights(tensors: Tensors, seed: int) -> dict[str, NDArray[np.float32]]:
    """Random values for every tensor that is read, in its order; the same for the same seed."""
    rng = np.random.default_rng(seed)

    def values(name: str) -> NDArray[np.float32]:
        role, shape = tensors.role(name), tensors.shape(name)
        if isinstance(role, Matrix | Table):
            table = (rng.standard_normal(shape) / np.sqrt(shape[1])).astype(np.float32)
            return table * np.float32(1.5) if isinstance(role, Matrix) else table
        if name.endswith(".bias"):
            return rng.normal(0, 0.3, shape).astype(np.float32)
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)

    return {name: values(name) for name in tensors.read}


class MemorySource:
    """A weight source in memory."""

    def __init__(self, config: dict[str, Any], weights: dict[str, NDArray[np.float32]]) -> None:
        self.config = config
        self.weights = weights
        self.path = Path("memory")

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
