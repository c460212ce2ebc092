"""A tensor that lies within a stored one: an entry of a stack, transposed, some of the rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shape = tuple[int, ...]


@dataclass(frozen=True)
class View:
    """Where a tensor lies: within the tensor ``stored``, of which each step takes a part.

    Attributes
    ----------
    stored : str
        Name of the stored tensor.
    index : int, optional
        First, the entry along its first axis.
    transposed : bool
        Then, the last two axes are exchanged.
    rows : pair of int, optional
        Then, the first row and the one after the last.
    """

    stored: str
    index: int | None = None
    transposed: bool = False
    rows: tuple[int, int] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether it is all of the stored tensor, as it lies there."""
        return self == View(self.stored)

    def of(self, whole: NDArray[Any]) -> NDArray[Any]:
        """The tensor, C-contiguous; nothing else of ``whole`` is looked at.

        A view of ``whole``, where that is C-contiguous, unless it has to be transposed.

        Examples
        --------
        >>> View("w", index=1, rows=(0, 1)).of(np.arange(8).reshape(2, 2, 2)).tolist()
        [[4, 5]]
        """
        return np.asarray(self._within(whole), order="C")

    def put(self, values: NDArray[Any], whole: NDArray[Any]) -> None:
        """Write the tensor's ``values`` to its place in ``whole``."""
        self._within(whole)[...] = values

    def shape(self, whole: Shape) -> Shape:
        """Shape of the tensor, from that of the stored one."""
        return self._within(np.broadcast_to(np.int8(0), whole)).shape

    def least(self, shape: Shape) -> Shape:
        """Shape of the smallest stored tensor that has a tensor of this ``shape`` there.

        Examples
        --------
        >>> View("w", index=2, rows=(4, 8)).least((4, 3))
        (3, 8, 3)
        """
        if self.rows is not None:
            shape = (self.rows[1], *shape[1:])
        if self.transposed:
            shape = (*shape[:-2], shape[-1], shape[-2])
        return shape if self.index is None else (self.index + 1, *shape)

    def _within(self, whole: NDArray[Any]) -> NDArray[Any]:
        part = whole if self.index is None else whole[self.index]
        part = part.swapaxes(-1, -2) if self.transposed else part
        return part if self.rows is None else part[slice(*self.rows)]


def stored_shapes(views: Mapping[str, View], shape: Callable[[str], Shape]) -> dict[str, Shape]:
    """Shapes of the stored tensors that ``views`` make up, from the shapes of their parts.

    Parts of one stored tensor have as many axes, and agree in all that is not cut.
    """
    found: dict[str, Shape] = {}
    for name, view in views.items():
        least = view.least(shape(name))
        before = found.get(view.stored, least)
        found[view.stored] = tuple(map(max, before, least))
    return found
