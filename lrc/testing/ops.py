"""Operations, one after the other in NumPy: what blocks and compiled loops are held to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lrc.nn.attention import attention
from lrc.nn.layers import gated_silu, rms_norm
from lrc.nn.ops import STREAM, Add, Attend, Gate, Multiply, Norm, Op, Rotate
from lrc.nn.rope import apply_rope, rope_tables

F32 = NDArray[np.float32]
Values = dict[str, F32]


def run_ops(ops: Sequence[Op], h: F32) -> Values:
    """Every value after ``ops`` by its name, (T, width), from the residual stream h of a text.

    Raises
    ------
    NotImplementedError
        For an operation that is not one of `lrc.nn.ops`.
    """
    values = {STREAM: h.copy()}
    for op in ops:
        values.update(_results(op, values))
    return values


def _results(op: Op, values: Values) -> Values:
    if isinstance(op, Norm):
        x = values[op.source]
        parts = x.reshape(len(x), -1, len(op.weight))
        return {op.target: rms_norm(parts, op.weight, op.eps).reshape(x.shape)}
    if isinstance(op, Multiply):
        made = (linear(values[op.source]) for linear in op.linears)
        return dict(zip(op.targets, made, strict=True))
    if isinstance(op, Rotate):
        x = values[op.value]
        cos, sin = rope_tables(op.rope, np.arange(len(x)))
        heads = x.reshape(1, len(x), -1, op.rope.head_dim)
        return {op.value: apply_rope(heads, cos, sin).reshape(x.shape)}
    if isinstance(op, Attend):
        return {op.target: _attention(op, values)}
    if isinstance(op, Gate) and op.kind == "silu":
        return {op.gate: gated_silu(values[op.gate], values[op.up])}
    if isinstance(op, Add):
        return {op.target: values[op.target] + values[op.source]}
    raise NotImplementedError(f"{op} has no rule here")


def _attention(op: Attend, values: Values) -> F32:
    q, k, v = (
        values[name].reshape(1, len(values[name]), -1, op.head_dim)
        for name in (op.queries, op.keys, op.values)
    )
    scaled = q * np.float32(op.factor * op.head_dim**0.5)
    k, v = k.transpose(0, 2, 1, 3), v.transpose(0, 2, 1, 3)
    mixed: F32 = attention(scaled, k, v, op.window)[0]
    return mixed
