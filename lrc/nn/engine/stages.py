"""A table for prompts in the making: rows, and the stages that all tokens go through together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from lrc.nn.engine.rows import Row


class Stages:
    """Rows in stages.

    Parameters
    ----------
    stream : str
        The value that there is before the first stage, and that counts after the last.

    Attributes
    ----------
    kept
        Values that outlive the stage in which they are made, so that every token needs its own.
    expert : int
        Whose tokens alone go through the stages that are added; -1: all do.
    """

    def __init__(self, stream: str) -> None:
        self.kept = {stream}
        self.expert = -1
        self._stages: list[tuple[int, list[Row]]] = []
        self._made = {stream: -1}
        self._open = False

    def alone(self, row: Row) -> None:
        """Add a stage of one row, which is of all tokens."""
        self._add(row, fresh=True)
        self._open = False

    def token(self, row: Row) -> None:
        """Add a row of one token, to the stage before it if that has such rows."""
        same = self._open and self._stages[-1][0] == self.expert
        self._add(row, fresh=not same)
        self._open = True

    def values(self) -> tuple[str, ...]:
        """Names of all values, in the order they are made."""
        return tuple(self._made)

    def tables(
        self, places: Mapping[str, int]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
        """Rows, their floats, and where each stage begins and ends, and its expert.

        ``places``: the number of each value's buffer.
        """
        made = [row for _, stage in self._stages for row in stage]
        lengths = np.array([len(stage) for _, stage in self._stages])
        ends, experts = np.cumsum(lengths), [expert for expert, _ in self._stages]
        rows = np.array(
            [
                row.integers(
                    source=places.get(row.source, 0),
                    target=places.get(row.target, 0),
                    **{column: places[name] for column, name in row.operands.items()},
                )
                for row in made
            ],
            np.int64,
        )
        numbers = np.array([row.floats() for row in made], np.float32)
        stages = np.stack([ends - lengths, ends, experts], axis=1).astype(np.int64)
        return rows, numbers, stages

    def _add(self, row: Row, *, fresh: bool) -> None:
        if fresh:
            self._stages.append((self.expert, []))
        self._stages[-1][1].append(row)
        now = len(self._stages) - 1
        reads = {row.source, row.target if row.changes else "", *row.operands.values()} - {""}
        self.kept |= {name for name in reads if self._made[name] != now}
        if row.target:
            self._made[row.target] = now
