"""What a backward pass is asked for, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, TypeAlias

from lrc.nn.ops import Op
from lrc.refine.vjp import Array, Asked, ByPlace

#: What lies before the blocks of a stack, as the part of a `Place`.
OPENING = -1

Ops: TypeAlias = tuple[Op, ...]


class Place(NamedTuple):
    """A program of a model: of which stack, and which block of it.

    ``part`` is `OPENING` before the blocks, and their number after them.
    """

    stack: int
    part: int


class Loss(Protocol):
    """A loss at logits, which is a sum over rows."""

    @property
    def scored(self) -> slice:
        """The tokens of each sequence whose logits count."""
        ...

    def __call__(self, part: int, rows: slice, logits: Array) -> tuple[float, Array]:
        """The sum over some rows of a part's scored tokens, and its gradient at their logits.

        Logits (rows, vocab) may be written to (work), and the gradient may lie there.
        """
        ...


class Programs(Protocol):
    """Which programs are run and differentiated, and by what."""

    def ops(self, place: Place, ops: Ops) -> Ops:
        """What is run in place of a model's own ``ops``; its layers have rules: `with_opened`."""
        ...

    def asked(self, place: Place, ops: Ops) -> Mapping[int, Asked]:
        """Names of arrays whose gradients are wanted, by the place of the operation in ``ops``."""
        ...


@dataclass
class Gradients:
    """Of a loss.

    Attributes
    ----------
    loss : float
    arrays : dict
        Gradients at what was asked for, by program, operation and name.
    entries : dict
        Those at the rows that enter each part of each stack, by stack.
    """

    loss: float = 0.0
    arrays: dict[Place, ByPlace] = field(default_factory=dict)
    entries: dict[int, list[Array]] = field(default_factory=dict)

    def add(self, place: Place, found: ByPlace) -> None:
        """Add what one part of the batch gives at a program."""
        mine = self.arrays.setdefault(place, {})
        for op, named in found.items():
            own = mine.setdefault(op, {})
            for name, g in named.items():
                own[name] = own[name] + g if name in own else g
