"""What a stack does before its first block."""

from __future__ import annotations

from typing import NamedTuple

from lrc.models.source import Array
from lrc.nn.ops import STREAM, Op, Pass, run
from lrc.nn.rope import Positions


class Opening(NamedTuple):
    """The beginning of a residual stream, and the operations on it before the first block.

    Attributes
    ----------
    entry : (B, T, n) float32
        Rows of the embedding, or moments of features.
    ops : tuple of Op
        They leave the value `STREAM`.
    positions : (T,) integers
        Of the tokens before the first block.
    """

    entry: Array
    ops: tuple[Op, ...]
    positions: Positions

    def run(self) -> Array:
        """Residual stream (B, T, hidden) before the first block."""
        return run(self.ops, {STREAM: self.entry}, Pass(self.positions))[STREAM]
