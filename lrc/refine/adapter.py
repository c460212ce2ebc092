"""A low-rank adapter beside a linear layer, which stays as it is (Hu et al., 2021)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from lrc.nn.execution import PLAIN, Execution
from lrc.nn.linear import DenseLinear
from lrc.refine.opened import OpenedLinear
from lrc.refine.vjp import Array, Asked, Named, only


@dataclass(frozen=True, eq=False)
class AdaptedLinear:
    """``y = W x + bias + upT (down x)``.

    Attributes
    ----------
    inner : DenseLinear or OpenedLinear
    down, up : (r, n) and (r, m)
    """

    ARRAYS: ClassVar[tuple[str, ...]] = ("down", "up")

    inner: DenseLinear | OpenedLinear
    down: Array
    up: Array

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs."""
        return self.inner.shape

    @property
    def bias(self) -> Array | None:
        """That of the layer."""
        return self.inner.bias

    def __call__(self, x: Array, execution: Execution = PLAIN) -> Array:
        """Map (..., n) to (..., m), in the dtype of x."""
        y: Array = self.inner(x, execution)
        y += (x @ self.down.T) @ self.up
        return y

    def pulled(self, x: Array, g: Array, of_inner: Array, asked: Asked) -> tuple[Array, Named]:
        """Gradients at x and at the factors, from those of outputs and of the layer's own input."""
        inner = g @ self.up.T
        named = only(
            asked, down=lambda: inner.T @ x, up=lambda: (x @ self.down.T).T @ g
        )  # fmt: skip
        return of_inner + inner @ self.down, named


class Factors(NamedTuple):
    """An adapter: ``down`` (r, n), A of the paper, and ``up`` (r, m), its B transposed."""

    down: Array
    up: Array
