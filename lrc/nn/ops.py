"""What a block computes, as data: a row of operations on named values, each with its rule in NumPy.

A model family declares its blocks in these records, and nothing else says what they compute:
`run` does them one after the other, `lrc.models.block` site by site, and `lrc.nn.engine` turns
them into a table that compiled loops read. A value is a vector a token; :data:`STREAM` is the
residual stream, which a block finds and leaves, and other names mean nothing outside their block.
A family may declare operations of its own: the compiled loops do not know them, and its blocks run
in NumPy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrc.nn.attention import attention
from lrc.nn.cache import KVCache
from lrc.nn.execution import PLAIN, Execution
from lrc.nn.layers import activate, gated, layer_norm, rms_norm, soft_cap
from lrc.nn.linear import Linear, apply_all
from lrc.nn.rope import Positions, Rope, apply_rope, rope_tables

if TYPE_CHECKING:
    from lrc.nn.routing import Dispatch

Array = NDArray[np.float32]
#: Values by name, (B, T, width) each; those of one expert are (rows, width).
Values: TypeAlias = Mapping[str, Array]

#: The residual stream, and what comes of it after the last block.
STREAM, LOGITS = "h", "logits"


@dataclass(frozen=True, eq=False)
class Pass:
    """One pass of tokens through a model: what its operations need beside values.

    Attributes
    ----------
    positions : (T,) integers
        Consecutive positions of the tokens.
    cache : KVCache or None
        Receives what later tokens need of these, and holds what they need of earlier ones.
    execution : Execution
    decided : mapping
        Values of another pass of the same tokens, whose decisions this one repeats: which experts
        a token has.
    every : int
        Each expert sees one token in so many beside those that are its own, for what only looks at
        inputs; 0 is none.
    """

    positions: Positions
    cache: KVCache | None = None
    execution: Execution = PLAIN
    decided: Values = field(default_factory=dict)
    every: int = 0
    _angles: dict[Rope, tuple[Array, Array]] = field(default_factory=dict, repr=False)

    def angles(self, rope: Rope) -> tuple[Array, Array]:
        """Cosines and sines at the positions, of a text as long as the cache; looked up once."""
        if rope not in self._angles:
            length = None if self.cache is None else self.cache.max_length
            self._angles[rope] = rope_tables(rope, self.positions, length)
        return self._angles[rope]

    @property
    def sample(self) -> slice:
        """The tokens that every expert sees, of all that there are."""
        return slice(self.every // 2, None if self.every else 0, self.every or None)


class Op:
    """One operation.

    ``name`` is what users are told where it is not compiled. ``reads`` and ``writes`` name values.
    """

    name: ClassVar[str] = "an operation without a name"
    #: Fields that hold the names of the values it needs, and of those it makes or changes.
    needs: ClassVar[tuple[str, ...]] = ()
    makes: ClassVar[tuple[str, ...]] = ()

    @property
    def reads(self) -> tuple[str, ...]:
        """Values that it needs."""
        return self._named(self.needs)

    @property
    def writes(self) -> tuple[str, ...]:
        """Values that it makes or changes."""
        return self._named(self.makes)

    @property
    def states(self) -> Mapping[str, tuple[int, ...]]:
        """Shapes of what it carries from token to token of a text, by name in the cache."""
        return {}

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """What it writes, in the order of ``writes``; arrays of ``values`` stay as they are."""
        raise NotImplementedError

    def _named(self, fields: Iterable[str]) -> tuple[str, ...]:
        found: list[str] = []
        for field_name in fields:
            value = getattr(self, field_name)
            found += [value] if isinstance(value, str) else value
        return tuple(found)


def run(ops: Iterable[Op], values: Values, at: Pass) -> dict[str, Array]:
    """All values after ``ops``, one after the other, beside those given."""
    now = dict(values)
    for op in ops:
        now.update(zip(op.writes, op.run(now, at), strict=True))
    return now


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
