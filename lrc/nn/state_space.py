"""Operations of state-space layers: they carry a state of a fixed size from token to token.

Their rules call compiled kernels: NumPy would need a step of its own for each token.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lrc.base.threads import chunks
from lrc.nn.ops import Array, Op, Pass, Values

#: Channels that a thread works on at a time, where a team shares several tokens.
TILE = 128


def _tiles(at: Pass, x: Array, size: int) -> list[tuple[int, slice]]:
    """Each sequence of x (B, T, ...), and each stretch of its channels or heads."""
    channels = x.shape[2]
    several = at.execution.team is not None and x.shape[1] > 1
    return list(itertools.product(range(len(x)), chunks(channels, size if several else channels)))


def carried(
    at: Pass, name: str, shape: tuple[int, ...], batch: int, work: Callable[[Array, Array], None]
) -> None:
    """Call ``work`` on the states before the tokens, and on an array for those after them.

    Both are (batch, ...); those before the first token of a text are zero.
    """
    before = at.cache.states[name] if at.cache else np.zeros((batch, *shape), np.float32)
    after = np.empty_like(before)
    work(before, after)
    if at.cache:
        at.cache.carry(name, after)


@dataclass(frozen=True, eq=False)
class Convolve(Op):
    """Causal convolution of each channel of ``value`` by itself, then SiLU.

    ``weight``: (taps, channels), the last row multiplies the token itself. ``state``: name of the
    last inputs in the cache.
    """

    name: ClassVar[str] = "causal convolution"
    value: str
    weight: Array
    bias: Array | None
    state: str

    @property
    def reads(self) -> tuple[str, ...]:
        """The value."""
        return (self.value,)

    @property
    def writes(self) -> tuple[str, ...]:
        """The value."""
        return (self.value,)

    @property
    def states(self) -> Mapping[str, tuple[int, ...]]:
        """All inputs that a convolution sees but the last."""
        return {self.state: (len(self.weight) - 1, self.weight.shape[1])}

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """The convolved value; see `causal_conv`."""
        from lrc_kernels.cpu.scan.causal_conv import causal_conv

        x = values[self.value]
        y = np.empty_like(x)

        def work(before: Array, after: Array) -> None:
            def tile(item: tuple[int, slice]) -> None:
                b, part = item
                bias = None if self.bias is None else self.bias[part]
                causal_conv(
                    x[b, :, part], self.weight[:, part], bias, before[b, :, part],
                    y[b, :, part], after[b, :, part], silu=True,
                )  # fmt: skip

            at.execution.each(tile, _tiles(at, x, TILE))

        carried(at, self.state, self.states[self.state], len(x), work)
        return (y,)


@dataclass(frozen=True, eq=False)
class Softplus(Op):
    """``value`` becomes ``log(1 + exp(value + bias))``, and no less or more than the limits."""

    name: ClassVar[str] = "softplus"
    value: str
    bias: Array | None = None
    least: float = 0.0
    most: float = np.inf

    @property
    def reads(self) -> tuple[str, ...]:
        """The value."""
        return (self.value,)

    @property
    def writes(self) -> tuple[str, ...]:
        """The value."""
        return (self.value,)

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """The positive value; see `softplus`."""
        from lrc_kernels.cpu.scan.softplus import softplus

        x = values[self.value]
        y = x.copy() if self.bias is None else x + self.bias
        rows = y.reshape(-1, y.shape[-1])
        at.execution.each(lambda part: softplus(rows[part], rows[part]), chunks(len(rows), TILE))
        if self.least > 0 or self.most < np.inf:
            np.clip(y, self.least, self.most, out=y)
        return (y,)


@dataclass(frozen=True, eq=False)
class SelectiveScan(Op):
    """The scan of Mamba (Gu and Dao, 2023): ``h = exp(dt A) h + dt B x``, ``y = C h + D x``.

    ``steps``: dt of every channel. ``inputs`` and ``outputs``: B and C, shared by all channels.
    ``decay``: A, (states, channels); ``skip``: D, (channels,); ``state``: name of h in the cache.
    """

    name: ClassVar[str] = "selective scan"
    source: str
    steps: str
    inputs: str
    outputs: str
    target: str
    decay: Array
    skip: Array
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
        """The state h of every channel."""
        return {self.state: self.decay.shape}

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """The scanned source; see `selective_scan`."""
        from lrc_kernels.cpu.scan.selective import selective_scan

        x, dt, B, C = (values[name] for name in self.reads)
        y = np.empty_like(x)

        def work(before: Array, after: Array) -> None:
            def tile(item: tuple[int, slice]) -> None:
                b, part = item
                selective_scan(
                    x[b, :, part], dt[b, :, part], self.decay[:, part], B[b], C[b],
                    self.skip[part], before[b, :, part], y[b, :, part], after[b, :, part],
                )  # fmt: skip

            at.execution.each(tile, _tiles(at, x, TILE))

        carried(at, self.state, self.decay.shape, len(x), work)
        return (y,)
