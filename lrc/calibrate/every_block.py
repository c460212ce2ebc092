"""What visitors share that visit every block in one run."""

from __future__ import annotations

from lrc.models.base import Block
from lrc.nn.linear import Linear


class EveryBlock:
    """Of a :class:`~lrc.calibrate.walk.Visitor` that has nothing to go on from or to write."""

    def begin(self, block: int) -> bool:
        """Every block is visited."""
        return True

    def replay(self, block: int, dense: Block) -> dict[str, Linear]:
        """Nothing is continued."""
        return {}

    def end(self, block: int) -> None:
        """Nothing is written."""
