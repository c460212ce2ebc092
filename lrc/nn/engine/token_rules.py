"""Operations on one token alone, as rows of the compiled loops' table: a rule for each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lrc.nn.engine.layout import Layout
from lrc.nn.engine.rows import Row
from lrc.nn.ops import Activate, Add, Gate, Norm, Op, Rotate, Scale, SoftCap, Split
from lrc.nn.rope import Rope
from lrc_kernels.cpu.engine import elementwise, norms, table

#: Kinds of norm, and of activation, by name.
NORMS = {"rms": norms.RMS, "layer": norms.LAYER}
KINDS = {
    "silu": elementwise.SILU, "gelu": elementwise.GELU, "gelu_tanh": elementwise.GELU_TANH,
    "relu": elementwise.RELU,
}  # fmt: skip


@dataclass(frozen=True)
class Context:
    """What rows refer to: addresses of arrays, and ropes by their number."""

    layout: Layout
    ropes: Sequence[Rope]

    def address(self, array: Any) -> int:
        """Address of an array in float32; 0 of None."""
        return 0 if array is None else self.layout.address(array.astype(np.float32, copy=False))


@dataclass(frozen=True)
class TokenRule:
    """How one kind of operation is compiled.

    Attributes
    ----------
    fits : function
        Whether an operation fits values of such widths.
    rows : function
        From an operation, the width of what it reads and the context to its rows.
    outside : function
        Why an operation is not compiled; an empty text where it is.
    """

    fits: Callable[[Any, Mapping[str, int]], bool]
    rows: Callable[[Any, int, Context], Sequence[Row]]
    outside: Callable[[Any], str] = lambda op: ""


def _norm(op: Norm, width: int, at: Context) -> Sequence[Row]:
    n = len(op.weight)
    # An RMSNorm's rule adds no bias.
    bias = op.bias if op.kind == "layer" else None
    columns = {"count": width // n, "width": n, "address": at.address(op.weight),
               "bias": at.address(bias), "kind": NORMS[op.kind]}  # fmt: skip
    return [Row(table.NORM, op.source, op.target, False, (op.eps,), columns)]


def _rotate(op: Rotate, width: int, at: Context) -> Sequence[Row]:
    stride, kind = _head_dim(op), norms.NEIGHBOURS if op.rope.interleaved else norms.HALVES
    columns = {"count": width // stride, "width": op.rope.head_dim, "stride": stride,
               "address": at.ropes.index(op.rope), "kind": kind}  # fmt: skip
    return [Row(table.ROTATE, op.value, op.value, True, (), columns)]


def _gate(op: Gate, width: int, at: Context) -> Sequence[Row]:
    columns = {"width": width, "kind": KINDS[op.kind]}
    return [Row(table.GATE, op.up, op.gate, True, (), columns)]


def _activate(op: Activate, width: int, at: Context) -> Sequence[Row]:
    columns = {"width": width, "kind": KINDS[op.kind]}
    return [Row(table.ACTIVATE, op.value, op.value, True, (), columns)]


def _add(op: Add, width: int, at: Context) -> Sequence[Row]:
    return [Row(table.ADD, op.source, op.target, True, (), {"width": width})]


def _scale(op: Scale, width: int, at: Context) -> Sequence[Row]:
    return [Row(table.SCALE, op.value, op.value, True, (op.factor,), {"width": width})]


def _soft_cap(op: SoftCap, width: int, at: Context) -> Sequence[Row]:
    return [Row(table.SOFT_CAP, op.value, op.value, True, (op.cap,), {"width": width})]


def _split(op: Split, width: int, at: Context) -> Sequence[Row]:
    starts = np.cumsum([0, *op.widths])
    return [
        Row(table.COPY, op.source, target, False, (),
            {"count": op.groups, "width": n, "stride": int(starts[-1]), "first": int(start)})
        for target, n, start in zip(op.targets, op.widths, starts, strict=False)
    ]  # fmt: skip


def _head_dim(op: Rotate) -> int:
    return op.head_dim or op.rope.head_dim


def _known_activation(op: Gate | Activate) -> str:
    return "" if op.kind in KINDS else f"{op.name} {op.kind}"


def _known_norm(op: Norm) -> str:
    if op.weight.ndim > 1:
        return "a norm with a weight for each head"
    return "" if op.kind in NORMS else f"{op.kind} norm"


def _any(op: Op, now: Mapping[str, int]) -> bool:
    return True


TOKEN_RULES: dict[type[Op], TokenRule] = {
    Norm: TokenRule(
        lambda op, now: now[op.source] % len(op.weight) == 0,
        _norm,
        _known_norm,
    ),
    Rotate: TokenRule(
        lambda op, now: now[op.value] % _head_dim(op) == 0 and op.rope.head_dim <= _head_dim(op),
        _rotate,
    ),
    Gate: TokenRule(lambda op, now: now[op.gate] == now[op.up], _gate, _known_activation),
    Activate: TokenRule(_any, _activate, _known_activation),
    Add: TokenRule(lambda op, now: now[op.source] == now[op.target], _add),
    Scale: TokenRule(_any, _scale),
    SoftCap: TokenRule(_any, _soft_cap),
    Split: TokenRule(
        lambda op, now: (
            now[op.source] == op.groups * sum(op.widths) and op.source not in op.targets
        ),
        _split,
    ),
}


def widths_after(op: Op, now: Mapping[str, int]) -> dict[str, int]:
    """Widths of what an operation writes, where those of what it reads are ``now``."""
    if isinstance(op, Split):
        return {to: op.groups * n for to, n in zip(op.targets, op.widths, strict=True)}
    return dict.fromkeys(op.writes, now[op.reads[0]])
