"""Operations that know where a token is: positions, and attention over those before it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lrc.nn.attention import attention
from lrc.nn.cache import KVCache
from lrc.nn.op import STREAM, Array, Op, Pass, Values
from lrc.nn.rope import Rope, apply_rope


@dataclass(frozen=True)
class Rotate(Op):
    """Rotary positions of every head in ``value``, in place.

    ``head_dim``: numbers of a head; 0 where all of them are rotated.
    """

    name: ClassVar[str] = "rotary positions"
    needs: ClassVar[tuple[str, ...]] = ("value",)
    makes: ClassVar[tuple[str, ...]] = ("value",)
    value: str
    rope: Rope
    head_dim: int = 0

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """The rotated heads; see `apply_rope`."""
        x = values[self.value]
        heads = x.reshape(*x.shape[:-1], -1, self.head_dim or self.rope.head_dim)
        return (apply_rope(heads, *at.angles(self.rope), self.rope.interleaved).reshape(x.shape),)


@dataclass(frozen=True)
class Attend(Op):
    """Attention over the cache of ``layer``, which receives keys and values first.

    ``window``: how many positions a token sees, itself included; 0 is all. ``scale``: of the
    products of queries and keys; None is one over the root of ``head_dim``. ``cap``: scores are
    capped softly there, as by `soft_cap`; 0 is not. ``slopes``: what is taken off a score of each
    head for each token between; none where there are none.
    """

    name: ClassVar[str] = "attention"
    needs: ClassVar[tuple[str, ...]] = (
        "queries",
        "keys",
        "values",
    )
    makes: ClassVar[tuple[str, ...]] = ("target",)
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
    cap: float = 0.0
    slopes: tuple[float, ...] = ()

    @property
    def factor(self) -> float:
        """The scale, whether given or not."""
        return self.head_dim**-0.5 if self.scale is None else self.scale

    @property
    def lean(self) -> Array | None:
        """The slopes, (heads,); None where there are none."""
        return np.array(self.slopes, np.float32) if self.slopes else None

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """Causal attention; see `attention`."""
        q, k, v = (
            values[name].reshape(*values[name].shape[:-1], -1, self.head_dim) for name in self.reads
        )
        if at.cache is None:
            k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)
        else:
            k, v = at.cache.append(self.layer, k, v, self.window)
        mixed = attention(
            q, k, v, self.window, at.execution, scale=self.factor, cap=self.cap, slopes=self.lean
        )
        return (mixed,)


@dataclass(frozen=True, eq=False)
class AddPositions(Op):
    """Each token's row of ``table``, at its position and ``offset``, is added to the stream."""

    name: ClassVar[str] = "learned positions"
    table: Array
    offset: int = 0

    @property
    def reads(self) -> tuple[str, ...]:
        """The residual stream."""
        return (STREAM,)

    @property
    def writes(self) -> tuple[str, ...]:
        """The residual stream."""
        return (STREAM,)

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """The sum."""
        return (values[STREAM] + self.table[at.positions + self.offset],)


def new_cache(ops: Iterable[Op], batch: int, max_length: int) -> KVCache:
    """Make an empty cache of what ``ops`` keep: for so many sequences of up to so many tokens.

    Layers with a window keep little more than that.
    """
    layers: dict[int, Attend] = {}
    states: dict[str, tuple[int, ...]] = {}
    for op in ops:
        states |= op.states
        if isinstance(op, Attend):
            layers[op.layer] = op
    count = 1 + max(layers, default=-1)
    ((kv_heads, head_dim),) = {(op.kv_heads, op.head_dim) for op in layers.values()} or {(0, 0)}
    windows = [layers[i].window if i in layers else 0 for i in range(count)]
    return KVCache(count, batch, kv_heads, max_length, head_dim, windows, states)
