"""Linear layers: one contract for dense and for compressed weights."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import row_tiles
from lrc.nn.execution import PLAIN, Execution

if TYPE_CHECKING:
    from lrc.formats.stored import StoredMatrix
    from lrc.parts.matrix import PackedMatrix

Array = NDArray[np.float32]


class Linear(Protocol):
    """``y = W x + bias`` along the last axis; the result is always a fresh array."""

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs."""
        ...

    def __call__(self, x: Array, execution: Execution = PLAIN) -> Array:
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

    def __call__(self, x: Array, execution: Execution = PLAIN) -> Array:
        """Map (..., n) float32 to (..., m) float32 in one product, or in tiles of rows.

        The rows of a product with several tokens are shared by a team's threads.
        """
        m, n = self.weight.shape
        rows = x.reshape(-1, n)
        several = execution.team is not None and len(rows) > 1
        y: Array = self._tiles(rows, execution) if several else rows @ self.weight.T
        if self.bias is not None:
            y += self.bias
        return y.reshape(*x.shape[:-1], m)

    def _tiles(self, x: Array, execution: Execution) -> Array:
        """The product with several tokens (T, n), a tile of rows of the weight at a time."""
        y = np.empty((len(x), len(self.weight)), np.float32)

        def tile(rows: slice) -> None:
            np.matmul(x, self.weight[rows].T, out=y[:, rows])

        execution.each(tile, row_tiles(len(self.weight)))
        return y


class LaterLinear(DenseLinear):
    """A dense layer whose weight is read when it is first looked at, and kept from then on.

    Parameters
    ----------
    read : function
        Gives the weight, (m, n) float32.
    shape : (m, n)
    bias : (m,) float32 or None
    """

    def __init__(self, read: Callable[[], Array], shape: tuple[int, int], bias: Array | None):
        self._reading, self._read, self._shape = threading.Lock(), read, shape
        self.bias = bias

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs; nothing is read for it."""
        return self._shape

    def __getattr__(self, name: str) -> Array:
        """Read the weight; there is no other attribute that comes later."""
        if name != "weight":
            raise AttributeError(name)
        with self._reading:
            if name not in self.__dict__:
                self.weight = self._read()
            found: Array = self.__dict__[name]
            return found


def make_linear(weight: Array | PackedMatrix | StoredMatrix, bias: Array | None = None) -> Linear:
    """Wrap a dense array, a packed matrix or one left as it is stored as a `Linear`.

    Parameters
    ----------
    weight : (m, n) float32 array, PackedMatrix or StoredMatrix
    bias : (m,) float32 or None
    """
    if isinstance(weight, np.ndarray):
        return DenseLinear(weight, bias)
    from lrc.formats.stored import StoredMatrix

    if isinstance(weight, StoredMatrix):
        from lrc.nn.stored import StoredLinear

        return StoredLinear(weight, bias)
    from lrc.nn.packed import PackedLinear

    return PackedLinear(weight, bias)


def apply_all(linears: Sequence[Linear], x: Array, execution: Execution = PLAIN) -> list[Array]:
    """Apply several linears to one input (..., n), sharing the work that they have in common."""
    together = getattr(linears[0], "apply_with", None)
    if together is None:
        return [linear(x, execution) for linear in linears]
    results: list[Array] = together(linears[1:], x, execution)
    return results
