"""Some rows or columns of a matrix in 16 bits; all others are zero.

What a block that was made narrower inside is stored as: rows of the matrices that give its inner
values, columns of those that take them. A record has ``side`` ("rows" or "columns") and ``count``.

=========== ===== ================ ====================================
tensor      dtype shape            meaning
=========== ===== ================ ====================================
kept_places U32   (count,)         which rows or columns, ascending
kept_values F16   (count, n or m)  rows, or columns as rows
=========== ===== ================ ====================================
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lrc.formats.safetensors.writing import TensorSpec
from lrc.parts.base import F32, Each, Part, PartRecord, Shape, Specs, Tensors, apart, require
from lrc.parts.fields import COUNT, Fields

ROWS, COLUMNS = SIDES = ("rows", "columns")


@dataclass(frozen=True)
class Kept(Part):
    """gain times the rows or columns ``places`` of a matrix of ``size`` (m, n).

    Attributes
    ----------
    side
        "rows" or "columns".
    places
        u32 (count,), ascending.
    values
        float16 (count, n) of rows, (count, m) of columns.
    """

    kind: ClassVar[str] = "kept"
    fields: ClassVar[Fields] = {
        "side": (lambda v: v in SIDES, "rows or columns"),
        "count": COUNT,
    }

    size: Shape
    side: str
    places: NDArray[np.uint32]
    values: NDArray[np.float16]

    def __post_init__(self) -> None:
        expected = type(self).layout(self.record(), self.size)
        for name, array in self.tensors().items():
            given = TensorSpec.of(array)
            require(given == expected[name], f"{name} are {given}, expected {expected[name]}")
        steps = np.diff(self.places.astype(np.int64))
        require(
            bool((steps > 0).all()) and int(self.places[-1]) < self.size[self._axis],
            f"places of {self.side} are not ascending, or not below {self.size[self._axis]}",
        )

    @property
    def _axis(self) -> int:
        return SIDES.index(self.side)

    # Storage

    @classmethod
    def layout(cls, record: PartRecord, shape: Shape) -> Specs:
        """Places and values."""
        count, axis = record["count"], SIDES.index(record["side"])
        require(count <= shape[axis], f"{count} {record['side']} of {shape[axis]} are kept")
        return {
            "kept_places": TensorSpec("U32", (count,)),
            "kept_values": TensorSpec("F16", (count, shape[1 - axis])),
        }

    @classmethod
    def read(cls, record: PartRecord, shape: Shape, tensors: Tensors) -> Kept:
        """The stored rows or columns."""
        return cls(shape, record["side"], tensors["kept_places"], tensors["kept_values"])

    @classmethod
    def label(cls, record: PartRecord) -> str:
        """How many."""
        return f"{record['count']} {record['side']}"

    def record(self) -> dict[str, Any]:
        """Side and count."""
        return {"kind": self.kind, "side": self.side, "count": len(self.places)}

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Places and values."""
        return {"kept_places": self.places, "kept_values": self.values}

    def faults(self) -> tuple[str, ...]:
        """Values that are not finite."""
        return () if np.isfinite(self.values).all() else ("a kept value is not finite",)

    # Values

    @property
    def shape(self) -> Shape:
        """(m, n)."""
        return self.size

    @cached_property
    def _wide(self) -> F32:
        """Values with the gain."""
        wide = self.values.astype(np.float32)
        wide *= np.float32(self.gain)
        return wide

    def rows(self, ids: NDArray[np.integer]) -> F32:
        """Rows with zeros where nothing is kept."""
        found = np.zeros((len(ids), self.size[1]), np.float32)
        if self.side == COLUMNS:
            found[:, self.places] = self._wide[:, ids].T
            return found
        place = np.full(self.size[0], -1)
        place[self.places] = np.arange(len(self.places))
        known = place[ids] >= 0
        found[known] = self._wide[place[ids][known]]
        return found

    def apply(self, z: F32, each: Each, *, integers: bool) -> F32:
        """Products of what is kept alone."""
        if self.side == COLUMNS:
            return apart(lambda x: x @ self._wide, z[:, self.places], few=integers)
        found = np.zeros((len(z), self.size[0]), np.float32)
        found[:, self.places] = apart(lambda x: x @ self._wide.T, z, few=integers)
        return found
