"""What a block computes, as data: a row of operations on named values, each with its rule in NumPy.

A model family declares its blocks in these records, and nothing else says what they compute:
`run` does them one after the other, `lrc.models.block` site by site, and `lrc.nn.engine` turns
them into a table that compiled loops read. A value is a vector a token; :data:`STREAM` is the
residual stream, which a block finds and leaves, and other names mean nothing outside their block.
A family may declare operations of its own: the compiled loops do not know them, and its blocks run
in NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from lrc.nn.attend import AddPositions, Attend, Rotate, new_cache
from lrc.nn.layers import activate, gated, layer_norm, rms_norm, soft_cap
from lrc.nn.linear import Linear, apply_all
from lrc.nn.op import LOGITS, STREAM, Array, Op, Pass, Values, run

if TYPE_CHECKING:
    from lrc.nn.routing import Dispatch

__all__ = [
    "LOGITS",
    "STREAM",
    "Activate",
    "Add",
    "AddPositions",
    "Array",
    "Attend",
    "Gate",
    "Multiply",
    "Norm",
    "Op",
    "Pass",
    "Rotate",
    "Scale",
    "SoftCap",
    "Split",
    "Values",
    "new_cache",
    "run",
]


@dataclass(frozen=True, eq=False)
class Norm(Op):
    """Normalisation of ``source`` to ``target``, of each stretch that is as long as ``weight``.

    A weight of two axes has a row for each stretch. ``kind``: "rms" or "layer"; ``bias`` is added,
    where there is one, after a "layer".
    """

    name: ClassVar[str] = "norm"
    needs: ClassVar[tuple[str, ...]] = ("source",)
    makes: ClassVar[tuple[str, ...]] = ("target",)
    weight: Array
    source: str
    target: str
    eps: float
    kind: str = "rms"
    bias: Array | None = None

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """The normalised stretches; see `rms_norm` and `layer_norm`."""
        x = values[self.source]
        stretches = x.reshape(*x.shape[:-1], -1, self.weight.shape[-1])
        if self.kind == "layer":
            y = layer_norm(stretches, self.weight, self.bias, self.eps)
        else:
            y = rms_norm(stretches, self.weight, self.eps)
        return (y.reshape(x.shape),)


@dataclass(frozen=True, eq=False)
class Multiply(Op):
    """Linear layers of one site: each maps ``source`` to the target of its own.

    ``dispatch``: what gathered the rows of the source, where they are those of an expert; what it
    gathered them from is read, too, by who looks at inputs.
    """

    name: ClassVar[str] = "linear layers"
    makes: ClassVar[tuple[str, ...]] = ("targets",)
    linears: tuple[Linear, ...]
    source: str
    targets: tuple[str, ...]
    dispatch: Dispatch | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """The source, and what it was gathered from."""
        return (self.source, *(self.dispatch.reads if self.dispatch else ()))

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """The products, sharing the work that they have in common; of no tokens, no work."""
        x = values[self.source]
        if not x.size:
            return tuple(np.empty((*x.shape[:-1], f.shape[0]), np.float32) for f in self.linears)
        return tuple(apply_all(self.linears, x, at.execution))


@dataclass(frozen=True)
class Split(Op):
    """Stretches of ``source``, one after the other, to ``targets`` of these widths.

    ``groups``: the source is so many rows of such stretches, as where the queries, keys and
    values of each head lie together; each target then is as many times as wide.
    """

    name: ClassVar[str] = "split"
    needs: ClassVar[tuple[str, ...]] = ("source",)
    makes: ClassVar[tuple[str, ...]] = ("targets",)
    source: str
    targets: tuple[str, ...]
    widths: tuple[int, ...]
    groups: int = 1

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """Copies of the stretches."""
        x = values[self.source]
        rows = x.reshape(*x.shape[:-1], self.groups, sum(self.widths))
        ends = np.cumsum(self.widths)
        return tuple(
            np.ascontiguousarray(rows[..., end - width : end]).reshape(*x.shape[:-1], -1)
            for width, end in zip(self.widths, ends, strict=True)
        )


@dataclass(frozen=True)
class Gate(Op):
    """``gate`` becomes ``kind(gate) * up``; kinds are those of `lrc.nn.layers.ACTIVATIONS`."""

    name: ClassVar[str] = "gate"
    needs: ClassVar[tuple[str, ...]] = (
        "gate",
        "up",
    )
    makes: ClassVar[tuple[str, ...]] = ("gate",)
    gate: str
    up: str
    kind: str = "silu"

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """The gated values."""
        return (gated(self.kind, values[self.gate], values[self.up], at.execution),)


@dataclass(frozen=True)
class Activate(Op):
    """``value`` becomes ``kind(value)``; kinds are those of `lrc.nn.layers.ACTIVATIONS`."""

    name: ClassVar[str] = "activation"
    needs: ClassVar[tuple[str, ...]] = ("value",)
    makes: ClassVar[tuple[str, ...]] = ("value",)
    value: str
    kind: str

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """The activated value."""
        return (activate(self.kind, values[self.value], at.execution),)


@dataclass(frozen=True)
class Add(Op):
    """``target`` becomes ``target + source``."""

    name: ClassVar[str] = "add"
    needs: ClassVar[tuple[str, ...]] = (
        "source",
        "target",
    )
    makes: ClassVar[tuple[str, ...]] = ("target",)
    source: str
    target: str = STREAM

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """The sum."""
        return (values[self.target] + values[self.source],)


@dataclass(frozen=True)
class Scale(Op):
    """``value`` becomes ``factor`` times itself."""

    name: ClassVar[str] = "scale"
    needs: ClassVar[tuple[str, ...]] = ("value",)
    makes: ClassVar[tuple[str, ...]] = ("value",)
    value: str
    factor: float

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """The product."""
        return (values[self.value] * np.float32(self.factor),)


@dataclass(frozen=True)
class SoftCap(Op):
    """``value`` becomes ``cap * tanh(value / cap)``."""

    name: ClassVar[str] = "soft cap"
    needs: ClassVar[tuple[str, ...]] = ("value",)
    makes: ClassVar[tuple[str, ...]] = ("value",)
    value: str
    cap: float

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """The capped value."""
        return (soft_cap(values[self.value].copy(), self.cap),)
