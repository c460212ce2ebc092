"""What a rule of the backward pass is given, and what it gives.

For an operation y = f(x, w) and the gradient g of a loss at y, its rule is the vector-Jacobian
product: gT df/dx for every value that the operation reads, and gT df/dw for those of its arrays
that are asked for. Everything is in the dtype of the values: float32 where models run, float64
where gradients are checked against finite differences.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrc.nn.ops import Op, Pass, Values

#: Values and gradients: float32, or float64 where those are checked.
Array: TypeAlias = NDArray[Any]
#: Names of the arrays of an operation whose gradients are wanted.
Asked: TypeAlias = Collection[str]
#: Gradients by the names of an operation's arrays.
Named: TypeAlias = dict[str, Array]
#: The same of a program, by the place of the operation.
ByPlace = dict[int, Named]


@dataclass(frozen=True)
class Step:
    """One operation that was run.

    Attributes
    ----------
    op : Op
    found : mapping
        The values that it read, by name.
    made : tuple of arrays
        What it wrote, in the order of ``op.writes``.
    at : Pass
        The pass in which it ran, which has no cache.
    """

    op: Any
    found: Values
    made: tuple[Array, ...]
    at: Pass


class Pulled(NamedTuple):
    """Gradients at what an operation reads, in the order of ``op.reads``, and at its arrays.

    None: the loss does not depend on the value through this operation.
    """

    values: tuple[Array | None, ...]
    named: Named = {}  # noqa: RUF012


@dataclass(frozen=True)
class Rule:
    """The backward pass of one kind of operation.

    Attributes
    ----------
    pull : function
        From a step, the gradients at what it wrote, and the names asked for, to `Pulled`.
    arrays : tuple of str
        Fields of the operation that are arrays, or None, and can be asked for.
    wide : function, optional
        What ``op.run`` computes, in float64, where that calls kernels of float32.
    """

    pull: Callable[[Step, tuple[Array, ...], Asked], Pulled]
    arrays: tuple[str, ...] = ()
    wide: Callable[[Any, Values, Pass], tuple[Array, ...]] | None = None

    def run(self, op: Op, values: Values, at: Pass) -> tuple[Array, ...]:
        """What ``op`` writes, in the dtype of the values."""
        if self.wide is not None and values[op.reads[0]].dtype == np.float64:
            return self.wide(op, values, at)
        return op.run(values, at)


def summed(g: Array, shape: tuple[int, ...]) -> Array:
    """The gradient at an array of this shape that was broadcast to that of ``g``: leading sums."""
    extra = g.ndim - len(shape)
    total: Array = g.sum(axis=tuple(range(extra))) if extra else g
    return total


def rows_of(x: Array) -> Array:
    """X (..., n) as a matrix (rows, n)."""
    return x.reshape(-1, x.shape[-1])


def only(asked: Asked, **made: Callable[[], Array]) -> Named:
    """Those of ``made`` that are asked for, computed."""
    return {name: make() for name, make in made.items() if name in asked}
