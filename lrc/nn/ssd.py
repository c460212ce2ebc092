"""The scan of Mamba-2 as an operation, beside those of :mod:`lrc.nn.state_space`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lrc.base.threads import chunks
from lrc.nn.ops import Array, Op, Pass, Values
from lrc.nn.state_space import carried

#: Heads that a thread works on at a time, where a team shares several tokens.
TILE = 2


@dataclass(frozen=True, eq=False)
class SsdScan(Op):
    """The scan of Mamba-2 (Dao and Gu, 2024): ``h = exp(dt A) h + dt B x``, ``y = C h + D x``.

    ``steps``: dt of every head. ``inputs`` and ``outputs``: B and C of each of ``groups``, ``size``
    numbers long, which as many heads of ``head_dim`` channels share. ``decay``: A, and ``skip``: D,
    both (heads,); ``state``: name of h in the cache.
    """

    name: ClassVar[str] = "scan of Mamba-2"
    source: str
    steps: str
    inputs: str
    outputs: str
    target: str
    decay: Array
    skip: Array
    head_dim: int
    size: int
    groups: int
    state: str

    @property
    def reads(self) -> tuple[str, ...]:
        """x, dt, B and C."""
        return (self.source, self.steps, self.inputs, self.outputs)

    @property
    def writes(self) -> tuple[str, ...]:
        """The target."""
        return (self.target,)

    @property
    def states(self) -> Mapping[str, tuple[int, ...]]:
        """The state h of every head."""
        return {self.state: (len(self.decay), self.size, self.head_dim)}

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """The scanned source; see `ssd_scan`."""
        from lrc_kernels.cpu.scan.ssd import ssd_scan

        x, dt, B, C = (values[name] for name in self.reads)
        x = x.reshape(*dt.shape, self.head_dim)
        B, C = (v.reshape(*v.shape[:2], self.groups, self.size) for v in (B, C))
        y, of_group = np.empty_like(x), len(self.decay) // self.groups
        several = at.execution.team is not None and x.shape[1] > 1
        parts = chunks(of_group, TILE if several else of_group)

        def work(before: Array, after: Array) -> None:
            def tile(item: tuple[int, int, slice]) -> None:
                b, g, part = item
                own = slice(g * of_group + part.start, g * of_group + part.stop)
                ssd_scan(
                    x[b, :, own], dt[b, :, own], self.decay[own], B[b, :, g], C[b, :, g],
                    self.skip[own], before[b, own], y[b, :, own], after[b, own],
                )  # fmt: skip

            tiles = itertools.product(range(len(x)), range(self.groups), parts)
            at.execution.each(tile, list(tiles))

        carried(at, self.state, self.states[self.state], len(x), work)
        return (y.reshape(*dt.shape[:2], -1),)
