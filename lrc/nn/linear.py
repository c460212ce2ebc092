"""Linear layers: one contract for dense and for compressed weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lrc.formats.matrix import PackedMatrix

Array = NDArray[np.float32]


class Linear(Protocol):
    """``y = W x + bias`` along the last axis; the result is always a fresh array."""

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs."""
        ...

    def __call__(self, x: Array) -> Array:
        """Map (..., n) float32 to (..., m) float32."""
        ...


class DenseLinear:
    """A linear layer on a dense float32 matrix.

    Parameters
    ----------
    weight : (m, n) float32
    bias : (m,) float32 or None
    """

    def __init__(self, weight: Array, bias: Array | None = None) -> None:
        self.weight = weight
        self.bias = bias

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs."""
        m, n = self.weight.shape
        return m, n

    def __call__(self, x: Array) -> Array:
        """Map (..., n) float32 to (..., m) float32 in one product."""
        m, n = self.weight.shape
        y: Array = x.reshape(-1, n) @ self.weight.T
        if self.bias is not None:
            y += self.bias
        return y.reshape(*x.shape[:-1], m)


def make_linear(weight: Array | PackedMatrix, bias: Array | None = None) -> Linear:
    """Wrap a dense array or a packed matrix as a `Linear`.

    Parameters
    ----------
    weight : (m, n) float32 array, or PackedMatrix
    bias : (m,) float32 or None
    """
    if isinstance(weight, np.ndarray):
        return DenseLinear(weight, bias)
    from lrc.nn.packed import PackedLinear

    return PackedLinear(weight, bias)


def apply_all(linears: Sequence[Linear], x: Array) -> list[Array]:
    """Apply several linears to one input (..., n), sharing the work that they have in common."""
    share = getattr(linears[0], "apply_with", None)
    if share is None:
        return [linear(x) for linear in linears]
    results: list[Array] = share(linears[1:], x)
    return results
