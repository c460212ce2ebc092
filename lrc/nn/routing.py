"""Operations of a mixture of experts: a token is computed by few of many feed-forward parts.

`Route` gives every token its experts. For each expert, `Dispatch` gathers the tokens that are
routed to it, `Multiply` and `Gate` work on those alone, and `Combine` adds what comes of them to
the residual stream. Without any, nothing of the expert's weights is looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lrc.nn.ops import STREAM, Array, Op, Pass, Values

Rows = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Route(Op):
    """The share that each expert has in each token, (..., experts): 0 for all but ``top``.

    Shares are the softmax of ``weight`` (experts, n) times ``source``; where they are
    ``normalised``, those that are left are divided by their sum, which is the softmax of the
    largest alone. Of equal shares the first counts.

    A pass that repeats the decisions of another (`Pass.decided`) takes its shares.
    """

    name: ClassVar[str] = "routing to experts"
    weight: Array
    source: str
    target: str
    top: int
    normalised: bool

    @property
    def reads(self) -> tuple[str, ...]:
        """The source."""
        return (self.source,)

    @property
    def writes(self) -> tuple[str, ...]:
        """The target."""
        return (self.target,)

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """The shares."""
        if self.target in at.decided:
            return (at.decided[self.target],)
        shares = values[self.source] @ self.weight.T
        shares -= shares.max(axis=-1, keepdims=True)
        np.exp(shares, out=shares)
        shares /= shares.sum(axis=-1, keepdims=True)
        chosen = np.argsort(-shares, axis=-1, kind="stable")[..., : self.top]
        kept = np.take_along_axis(shares, chosen, axis=-1)
        if self.normalised:
            kept /= kept.sum(axis=-1, keepdims=True)
        shares[...] = 0
        np.put_along_axis(shares, chosen, kept, axis=-1)
        return (shares,)


@dataclass(frozen=True)
class Dispatch(Op):
    """The tokens (rows, n) of ``source`` that ``routing`` gives to an ``expert``, in their order.

    A pass may want others beside them (`Pass.every`), whose share is 0.
    """

    name: ClassVar[str] = "dispatch to an expert"
    expert: int
    source: str
    routing: str
    target: str

    @property
    def reads(self) -> tuple[str, ...]:
        """The source and the routing."""
        return (self.source, self.routing)

    @property
    def writes(self) -> tuple[str, ...]:
        """The target."""
        return (self.target,)

    def shares(self, values: Values) -> Array:
        """The expert's share in every token, (tokens,)."""
        routing = values[self.routing]
        return routing.reshape(-1, routing.shape[-1])[:, self.expert]

    def rows(self, values: Values, at: Pass) -> Rows:
        """Which tokens are gathered, of all that there are."""
        wanted = self.shares(values) > 0
        wanted[at.sample] = True
        return np.flatnonzero(wanted)

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """The tokens."""
        x = values[self.source]
        return (x.reshape(-1, x.shape[-1])[self.rows(values, at)],)


@dataclass(frozen=True)
class Combine(Op):
    """The residual stream gains the rows of ``source``, each times its share, at its token."""

    name: ClassVar[str] = "sum of experts"
    source: str
    dispatch: Dispatch

    @property
    def reads(self) -> tuple[str, ...]:
        """The source, the routing and the residual stream."""
        return (self.source, self.dispatch.routing, STREAM)

    @property
    def writes(self) -> tuple[str, ...]:
        """The residual stream."""
        return (STREAM,)

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """The sum."""
        y, h = values[self.source], values[STREAM]
        if not len(y):
            return (h,)
        rows = self.dispatch.rows(values, at)
        total = h.reshape(-1, h.shape[-1]).copy()
        total[rows] += y * self.dispatch.shares(values)[rows, None]
        return (total.reshape(h.shape),)


@dataclass(frozen=True, eq=False)
class SigmoidGate(Op):
    """``value`` times a sigmoid a token: that of ``weight`` (1, n) times ``source``."""

    name: ClassVar[str] = "gate of one number a token"
    weight: Array
    source: str
    value: str

    @property
    def reads(self) -> tuple[str, ...]:
        """Both values."""
        return (self.source, self.value)

    @property
    def writes(self) -> tuple[str, ...]:
        """The value."""
        return (self.value,)

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """The product."""
        gate = values[self.source] @ self.weight.T
        with np.errstate(over="ignore"):  # exp(-x) at infinity is a sigmoid of 0
            return (values[self.value] / (1 + np.exp(-gate)),)
