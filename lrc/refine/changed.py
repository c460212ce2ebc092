"""The programs of a model with some of their arrays changed, those whose gradients are wanted."""

from __future__ import annotations

from collections.abc import Mapping

from lrc.nn.ops import Multiply
from lrc.refine.gradients import Ops, Place
from lrc.refine.opened import OpenedLinear
from lrc.refine.rules import with_arrays, with_opened
from lrc.refine.vjp import Asked, ByPlace


class OpenedPrograms:
    """Programs with their packed layers opened, the first ones for good: as many as fit.

    Parameters
    ----------
    limit : int
        Bytes of decoded codes that stay in memory.
    """

    def __init__(self, limit: int = 0) -> None:
        self._left = limit
        self._kept: dict[Place, Ops] = {}

    def __call__(self, place: Place, ops: Ops) -> Ops:
        """The operations with their layers opened; those of one place are always the same."""
        if place not in self._kept:
            made = with_opened(ops)
            size = sum(map(_decoded_bytes, made))
            if not size or size > self._left:
                return made
            self._left -= size
            self._kept[place] = made
        return self._kept[place]


def _decoded_bytes(op: object) -> int:
    layers = op.linears if isinstance(op, Multiply) else ()
    codes = [layer.codes for layer in layers if isinstance(layer, OpenedLinear)]
    return sum(array.nbytes for array in codes if array is not None)


class Changed:
    """Programs that take some arrays from here, and ask for the gradients at all of these.

    Parameters
    ----------
    arrays : mapping
        Those to take, by program, place of the operation and name; see `lrc.refine.rules.arrays`.
    opened : OpenedPrograms, optional
        What opens their layers.
    """

    def __init__(
        self, arrays: Mapping[Place, ByPlace], opened: OpenedPrograms | None = None
    ) -> None:
        self._arrays, self._opened = arrays, opened or OpenedPrograms()

    def ops(self, place: Place, ops: Ops) -> Ops:
        """The operations with the arrays from here."""
        mine = self._arrays.get(place, {})
        return tuple(
            with_arrays(op, mine.get(i, {})) for i, op in enumerate(self._opened(place, ops))
        )

    def asked(self, place: Place, ops: Ops) -> Mapping[int, Asked]:
        """Their names."""
        return {i: tuple(named) for i, named in self._arrays.get(place, {}).items()}
