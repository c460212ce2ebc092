"""Quantizers that only tests need: their rounding error is known, or wild."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class _Toy:
    id: str = "toy"
    bits: int = 32
    block_size: int = 1
    block_rows: int = 1
    input_scale: float = 1.0

    def decode(self, codes):
        return codes[0].astype(np.float32)

    def pack(self, codes):
        return codes

    def unpack(self, planes, n):
        return planes


class Integers(_Toy):
    """Every integer is a level, so nothing is ever clipped: errors are uniform in +-1/2."""

    def encode(self, Z):
        return (np.rint(Z).astype(np.int32),)


@dataclass(frozen=True)
class RandomRounder(_Toy):
    """Rounds up or down by coin toss: as bad as a law that holds for any rounding may meet."""

    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(77))

    def encode(self, Z):
        return ((np.floor(Z) + self.rng.integers(0, 2, Z.shape)).astype(np.int32),)
