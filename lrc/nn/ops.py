"""What a block computes, as data: a row of operations on named values.

A model family declares its blocks in these records, and `lrc.nn.engine` turns them into a table
that compiled loops read. A value is a vector a token; :data:`STREAM` is the residual stream, which
a block finds and leaves, and other names mean nothing outside their block. A family may declare
operations of its own: the compiled loops do not know them, and its blocks run in NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lrc.nn.linear import Linear
from lrc.nn.rope import Rope

#: The residual stream, and what comes of it after the last block.
STREAM, LOGITS = "h", "logits"


class Op:
    """One operation; ``name`` is what users are told where it is not compiled."""

    name: ClassVar[str] = "an operation without a name"


@dataclass(frozen=True, eq=False)
class Norm(Op):
    """RMSNorm of ``source`` to ``target``, of each stretch that is as long as ``weight``."""

    name: ClassVar[str] = "norm"
    weight: NDArray[np.float32]
    source: str
    target: str
    eps: float


@dataclass(frozen=True, eq=False)
class Multiply(Op):
    """Linear layers of one site: each maps ``source`` to the target of its own."""

    name: ClassVar[str] = "linear layers"
    linears: tuple[Linear, ...]
    source: str
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Rotate(Op):
    """Rotary positions of every head in ``value``, in place."""

    name: ClassVar[str] = "rotary positions"
    value: str
    rope: Rope


@dataclass(frozen=True)
class Attend(Op):
    """Causal attention over the cache of ``layer``, which receives keys and values first.

    ``window``: how many positions a token sees, itself included; 0 is all. ``scale``: of the
    products of queries and keys; None is one over the root of ``head_dim``.
    """

    name: ClassVar[str] = "attention"
    queries: str
    keys: str
    values: str
    target: str
    layer: int
    heads: int
    kv_heads: int
    head_dim: int
    window: int = 0
    scale: float | None = None

    @property
    def factor(self) -> float:
        """The scale, whether given or not."""
        return self.head_dim**-0.5 if self.scale is None else self.scale


@dataclass(frozen=True)
class Gate(Op):
    """``gate`` becomes ``kind(gate) * up``."""

    name: ClassVar[str] = "gate"
    gate: str
    up: str
    kind: str = "silu"


@dataclass(frozen=True)
class Add(Op):
    """``target`` becomes ``target + source``."""

    name: ClassVar[str] = "add"
    source: str
    target: str = STREAM
