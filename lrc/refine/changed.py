"""The programs of a model with some of their arrays changed, those whose gradients are wanted."""

from __future__ import annotations

from collections.abc import Mapping

from lrc.refine.backward import Ops, Place
from lrc.refine.rules import with_arrays, with_opened
from lrc.refine.vjp import Asked, ByPlace


class Changed:
    """Programs that take some arrays from here, and ask for the gradients at all of these.

    Parameters
    ----------
    arrays : mapping
        Those to take, by program, place of the operation and name; see `lrc.refine.rules.arrays`.
    """

    def __init__(self, arrays: Mapping[Place, ByPlace]) -> None:
        self._arrays = arrays

    def ops(self, place: Place, ops: Ops) -> Ops:
        """The operations with the arrays from here."""
        mine = self._arrays.get(place, {})
        return tuple(with_arrays(op, mine.get(i, {})) for i, op in enumerate(with_opened(ops)))

    def asked(self, place: Place, ops: Ops) -> Mapping[int, Asked]:
        """Their names."""
        return {i: tuple(named) for i, named in self._arrays.get(place, {}).items()}
