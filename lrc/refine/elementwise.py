"""Backward pass of what is done number by number, and of sums."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import erf

from lrc.nn.layers import ACTIVATIONS, soft_cap
from lrc.nn.ops import Activate, Add, AddPositions, Gate, Op, Scale, SoftCap
from lrc.refine.vjp import Array, Asked, Pulled, Rule, Step, only

_NORMAL, _ROOT_HALF = float(np.sqrt(0.5 / np.pi)), float(np.sqrt(0.5))
_CUBIC, _TANH_SCALE = 0.044715, float(np.sqrt(2 / np.pi))


def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``."""
    with np.errstate(over="ignore"):  # exp(-x) at infinity is a sigmoid of 0
        result: Array = 1 / (1 + np.exp(-x))
    return result


def silu_slope(x: Array) -> Array:
    """Derivative of ``x sigmoid(x)``: ``s (1 + x (1 - s))``."""
    s = sigmoid(x)
    slope: Array = s * (1 + x * (1 - s))
    return slope


def gelu_slope(x: Array) -> Array:
    """Derivative of ``x Phi(x)``: ``Phi(x) + x phi(x)``."""
    slope: Array = 0.5 * (1 + erf(x * _ROOT_HALF)) + x * (_NORMAL * np.exp(-0.5 * x * x))
    return slope


def gelu_tanh_slope(x: Array) -> Array:
    """Derivative of ``x (1 + tanh(u)) / 2``, u = c (x + 0.044715 x^3)."""
    square = x * x
    t = np.tanh(_TANH_SCALE * x * (1 + _CUBIC * square))
    inner = _TANH_SCALE * (1 + 3 * _CUBIC * square)
    slope: Array = 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner
    return slope


def relu_slope(x: Array) -> Array:
    """1 where x is above 0; at 0, 0."""
    return (x > 0).astype(x.dtype)


def relu2_slope(x: Array) -> Array:
    """Derivative of ``max(x, 0)^2``."""
    slope: Array = 2 * np.maximum(x, 0)
    return slope


#: Derivatives of `lrc.nn.layers.ACTIVATIONS`, by the same names.
SLOPES: dict[str, Callable[[Array], Array]] = {
    "silu": silu_slope, "gelu": gelu_slope, "gelu_tanh": gelu_tanh_slope, "relu": relu_slope,
    "relu2": relu2_slope,
}  # fmt: skip


def gate(step: Step, grads: tuple[Array, ...], asked: Asked) -> Pulled:
    """Of ``kind(a) b``: ``g b kind'(a)`` and ``g kind(a)``."""
    op: Gate = step.op
    (g,), a, b = grads, step.found[op.gate], step.found[op.up]
    opened = np.empty_like(a)
    ACTIVATIONS[op.kind](a, out=opened)
    opened *= g
    slope = SLOPES[op.kind](a)
    slope *= b
    slope *= g
    return Pulled((slope, opened))


def activation(step: Step, grads: tuple[Array, ...], asked: Asked) -> Pulled:
    """Of ``kind(x)``: ``g kind'(x)``."""
    op: Activate = step.op
    return Pulled((grads[0] * SLOPES[op.kind](step.found[op.value]),))


def add(step: Step, grads: tuple[Array, ...], asked: Asked) -> Pulled:
    """Of a sum: g, at both."""
    return Pulled((grads[0], grads[0]))


def scale(step: Step, grads: tuple[Array, ...], asked: Asked) -> Pulled:
    """Of ``c x``: ``c g``."""
    return Pulled((grads[0] * np.float32(step.op.factor),))


def capped(step: Step, grads: tuple[Array, ...], asked: Asked) -> Pulled:
    """Of ``c tanh(x / c)``: ``g (1 - tanh(x / c)^2)``."""
    op: SoftCap = step.op
    return Pulled((grads[0] * cap_slope(step.found[op.value], op.cap),))


def cap_slope(x: Array, cap: float) -> Array:
    """Derivative of a soft cap at x: ``1 - tanh(x / cap)^2``."""
    t = soft_cap(x.copy(), cap)
    t *= np.float32(1 / cap)
    slope: Array = 1 - t * t
    return slope


def positions(step: Step, grads: tuple[Array, ...], asked: Asked) -> Pulled:
    """Of rows of a table that are added: g at the stream; at the table, g in the rows used."""
    op: AddPositions = step.op

    def table() -> Array:
        total = np.zeros(op.table.shape, grads[0].dtype)
        np.add.at(total, step.at.positions + op.offset, grads[0].sum(axis=0))
        return total

    return Pulled((grads[0],), only(asked, table=table))


RULES: dict[type[Op], Rule] = {
    Gate: Rule(gate),
    Activate: Rule(activation),
    Add: Rule(add),
    Scale: Rule(scale),
    SoftCap: Rule(capped),
    AddPositions: Rule(positions, ("table",)),
}
