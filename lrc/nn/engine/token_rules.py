"""Operations on one token alone, as rows of the compiled loops' table: a rule for each of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from lrc.nn.engine.layout import Layout
from lrc.nn.engine.rows import Row
from lrc.nn.ops import Activate, Add, Gate, Norm, Op, Rotate, Scale, SoftCap, Split
from lrc.nn.rope import Rope
from lrc.nn.routing import SigmoidGate
from lrc.nn.state_space import Softplus
from lrc_kernels.cpu.engine import elementwise, norms, table

#: Of values, by name.
Widths: TypeAlias = Mapping[str, int]

#: Kinds of norm, and of activation, by name.
NORMS = {"rms": norms.RMS, "layer": norms.LAYER}
KINDS = {
    "silu": elementwise.SILU, "gelu": elementwise.GELU, "gelu_tanh": elementwise.GELU_TANH,
    "relu": elementwise.RELU, "relu2": elementwise.RELU2,
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
        From an operation, the widths of values and the context to its rows.
    outside : function
        Why an operation is not compiled; an empty text where it is.
    """

    fits: Callable[[Any, Widths], bool]
    rows: Callable[[Any, Widths, Context], Sequence[Row]]
    outside: Callable[[Any], str] = lambda op: ""


def _norm(op: Norm, now: Widths, at: Context) -> Sequence[Row]:
    n, width = op.weight.shape[-1], now[op.source]
    # An RMSNorm's rule adds no bias.
    bias = op.bias if op.kind == "layer" else None
    columns = {"count": width // n, "width": n, "address": at.address(op.weight),
               "bias": at.address(bias), "kind": NORMS[op.kind],
               "stride": n if op.weight.ndim > 1 else 0}  # fmt: skip
    return [Row(table.NORM, op.source, op.target, False, (op.eps,), columns)]


def _norm_fits(op: Norm, width: int) -> bool:
    """Each stretch has a row of weights, or all have one; a bias is as long as the weights."""
    stretches, rest = divmod(width, op.weight.shape[-1])
    rows = op.weight.ndim == 1 or len(op.weight) == stretches
    return rest == 0 and rows and (op.bias is None or op.bias.shape == op.weight.shape)


def _rotate(op: Rotate, now: Widths, at: Context) -> Sequence[Row]:
    stride, kind = _head_dim(op), norms.NEIGHBOURS if op.rope.interleaved else norms.HALVES
    columns = {"count": now[op.value] // stride, "width": op.rope.head_dim, "stride": stride,
               "address": at.ropes.index(op.rope), "kind": kind}  # fmt: skip
    return [Row(table.ROTATE, op.value, op.value, True, (), columns)]


def _gate(op: Gate, now: Widths, at: Context) -> Sequence[Row]:
    columns = {"width": now[op.gate], "kind": KINDS[op.kind]}
    return [Row(table.GATE, op.up, op.gate, True, (), columns)]


def _activate(op: Activate, now: Widths, at: Context) -> Sequence[Row]:
    columns = {"width": now[op.value], "kind": KINDS[op.kind]}
    return [Row(table.ACTIVATE, op.value, op.value, True, (), columns)]


def _add(op: Add, now: Widths, at: Context) -> Sequence[Row]:
    return [Row(table.ADD, op.source, op.target, True, (), {"width": now[op.source]})]


def _scale(op: Scale, now: Widths, at: Context) -> Sequence[Row]:
    return [Row(table.SCALE, op.value, op.value, True, (op.factor,), {"width": now[op.value]})]


def _soft_cap(op: SoftCap, now: Widths, at: Context) -> Sequence[Row]:
    return [Row(table.SOFT_CAP, op.value, op.value, True, (op.cap,), {"width": now[op.value]})]


def _softplus(op: Softplus, now: Widths, at: Context) -> Sequence[Row]:
    columns = {"width": now[op.value], "bias": at.address(op.bias)}
    return [Row(table.SOFTPLUS, op.value, op.value, True, (op.least, op.most), columns)]


def _sigmoid_gate(op: SigmoidGate, now: Widths, at: Context) -> Sequence[Row]:
    columns = {"count": now[op.source], "width": now[op.value], "address": at.address(op.weight)}
    return [Row(table.WEIGH_BY_SIGMOID, op.source, op.value, True, (), columns)]


def _split(op: Split, now: Widths, at: Context) -> Sequence[Row]:
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


def _any(op: Op, now: Widths) -> bool:
    return True


TOKEN_RULES: dict[type[Op], TokenRule] = {
    Norm: TokenRule(
        lambda op, now: _norm_fits(op, now[op.source]),
        _norm,
        lambda op: "" if op.kind in NORMS else f"{op.kind} norm",
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
    Softplus: TokenRule(_any, _softplus),
    SigmoidGate: TokenRule(lambda op, now: op.weight.size == now[op.source], _sigmoid_gate),
    Split: TokenRule(
        lambda op, now: (
            now[op.source] == op.groups * sum(op.widths) and op.source not in op.targets
        ),
        _split,
    ),
}
