"""A kind of part that the library does not have, for tests: a few weights of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lrc.formats.safetensors.writing import TensorSpec
from lrc.parts.base import Part
from lrc.parts.fields import NATURAL


@dataclass(frozen=True)
class Sparse(Part):
    """``size`` (m, n); ``places`` u16 (count, 2); ``values`` f16 (count,)."""

    kind: ClassVar[str] = "sparse"
    fields: ClassVar = {"count": NATURAL}

    size: tuple[int, int]
    places: np.ndarray
    values: np.ndarray

    @classmethod
    def random(cls, shape, count, seed=11):
        rng = np.random.default_rng(seed)
        flat = rng.choice(shape[0] * shape[1], count, replace=False)
        places = np.stack(np.unravel_index(flat, shape), axis=1).astype(np.uint16)
        return cls(shape, places, rng.standard_normal(count).astype(np.float16))

    @classmethod
    def layout(cls, record, shape):
        count = record["count"]
        return {"places": TensorSpec("U16", (count, 2)), "values": TensorSpec("F16", (count,))}

    @classmethod
    def read(cls, record, shape, tensors):
        return cls(shape, tensors["places"], tensors["values"])

    @classmethod
    def label(cls, record):
        return f"{record['count']} alone"

    def record(self):
        return {"kind": self.kind, "count": len(self.values)}

    def tensors(self):
        return {"places": self.places, "values": self.values}

    @property
    def shape(self):
        return self.size

    def rows(self, ids):
        whole = np.zeros(self.size, np.float32)
        whole[self.places[:, 0], self.places[:, 1]] = self.values.astype(np.float32)
        return whole[ids] * np.float32(self.gain)
