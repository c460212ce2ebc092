"""Backward pass of linear layers: dense ones, and Q + L R on packed codes, which stay as they are.

A packed layer is `OpenedLinear` here: its codes decoded once, for all products of a block with one
batch. With z = M_n S_in x, u = gain (Q z + L R z) and y = S_out M_m^T u + bias, the gradient is
carried through each factor in turn; nothing but Q and L R z is ever as large as the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from lrc.nn.linear import DenseLinear, Linear
from lrc.nn.memory import MultiplyMemory
from lrc.nn.ops import Multiply, Op
from lrc.refine.opened import OpenedLinear, opened
from lrc.refine.vjp import Array, Asked, Named, Pulled, Rule, Step, only, rows_of

_Pull = Callable[[Any, Array, Array, Asked], tuple[Array, Named]]


def dense(linear: DenseLinear, x: Array, g: Array, asked: Asked) -> tuple[Array, Named]:
    """Of ``y = W x + b``: ``WT g`` for each row; the sums of ``g xT`` and of g, or g itself."""
    named = only(asked, weight=lambda: g.T @ x, bias=lambda: g.sum(axis=0), output=lambda: g)
    return g @ linear.weight, named


def packed(linear: OpenedLinear, x: Array, g: Array, asked: Asked) -> tuple[Array, Named]:
    """Of an opened layer; see the head of this file."""
    f = linear
    z = f.rotated(x)
    du = f.output_rotated(g)
    scaled = du * f.gain
    dz = np.zeros_like(z) if f.codes is None else (scaled * f.row_scales) @ f.codes
    mixed = f.weighed(z) if {"gain", "signs_out"} & set(asked) else z
    named = only(
        asked,
        gain=lambda: np.array([np.vdot(du, mixed)], g.dtype),
        row_scales=lambda: _of_row_scales(f, z, scaled),
        signs_out=lambda: (g * f.before_signs(mixed * f.gain)).sum(axis=0),
        bias=lambda: g.sum(axis=0),
        output=lambda: g,
    )
    if f.left is not None and f.right is not None:
        left, right = f.left, f.right
        of_components = scaled @ left.T
        inner = f.scaled(of_components)
        dz += inner @ right
        named |= only(
            asked,
            left=lambda: f.scaled(z @ right.T).T @ scaled,
            component_scales=lambda: (of_components * (z @ right.T)).sum(axis=0),
            right=lambda: inner.T @ z,
        )
    back = f.rotated_back(dz)
    named |= only(asked, signs_in=lambda: (x * back).sum(axis=0))
    return f.input_signed(back), named


def _of_row_scales(f: OpenedLinear, z: Array, scaled: Array) -> Array:
    """They multiply rows of the codes; where there are none, nothing depends on them."""
    if f.codes is None:
        return np.zeros_like(f.row_scales)
    found: Array = (scaled * (z @ f.codes.T)).sum(axis=0)
    return found


#: Kind of linear layer to its backward pass and the arrays that can be asked for.
LINEARS: dict[
    type, tuple[Callable[[Any, Array, Array, Asked], tuple[Array, Named]], tuple[str, ...]]
]
LINEARS = {
    DenseLinear: (dense, ("weight", "bias")),
    OpenedLinear: (packed, OpenedLinear.ARRAYS),
}


def multiply(step: Step, grads: tuple[Array, ...], asked: Asked) -> Pulled:
    """Of the layers of a site, which share their input: the sum of their gradients.

    Arrays are named by the place of the layer, as ``"0.weight"``; ``"0.output"`` is the gradient
    (rows, m) at what it gives. What the rows of an expert were gathered from is read by who looks
    at inputs alone: nothing here depends on it.
    """
    op: Multiply = step.op
    x = step.found[op.source]
    total: Array | None = None
    named: Named = {}
    for place, (linear, g) in enumerate(zip(op.linears, grads, strict=True)):
        prefix = f"{place}."
        wanted = {name.removeprefix(prefix) for name in asked if name.startswith(prefix)}
        linear = opened(linear)
        pull, _ = LINEARS[type(linear)]
        of_x, own = pull(linear, rows_of(x), rows_of(g), wanted)
        total = of_x if total is None else np.add(total, of_x, out=total)
        named |= {prefix + name: value for name, value in own.items()}
    assert total is not None
    return Pulled((total.reshape(x.shape), *(None for _ in op.reads[1:])), named)


def arrays_of(linear: Linear) -> dict[str, Array]:
    """The arrays of a linear layer whose gradients can be asked for, by name."""
    linear = opened(linear)
    _, names = LINEARS[type(linear)]
    found = {name: getattr(linear, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


RULES: dict[type[Op], Rule] = {Multiply: Rule(multiply), MultiplyMemory: Rule(multiply)}
