"""Backward pass of linear layers: dense ones, and Q + L R on packed codes, which stay as they are.

A packed layer is `OpenedLinear` here: its codes decoded once, for all products of a block with one
batch. With z = M_n S_in x, u = gain (Q z + L R z) and y = S_out M_m^T u + bias, the gradient is
carried through each factor in turn; nothing but Q and L R z is ever as large as the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from lrc.nn.linear import DenseLinear, Linear
from lrc.nn.memory import MultiplyMemory
from lrc.nn.ops import Multiply, Op
from lrc.refine.adapter import AdaptedLinear
from lrc.refine.opened import OpenedLinear, opened
from lrc.refine.vjp import Array, Asked, Named, Pulled, Rule, Step, only, rows_of

_Pull: TypeAlias = Callable[[Any, Array, Array, Array, Asked], tuple[Array, Named]]
#: A factor below this cannot be divided out again of what it made.
_LEAST = 1e-4


def dense(linear: DenseLinear, x: Array, y: Array, g: Array, asked: Asked) -> tuple[Array, Named]:
    """Of ``y = W x + b``: ``WT g`` for each row; the sums of ``g xT`` and of g, or g itself."""
    named = only(asked, weight=lambda: g.T @ x, bias=lambda: g.sum(axis=0), output=lambda: g)
    return g @ linear.weight, named


def packed(linear: OpenedLinear, x: Array, y: Array, g: Array, asked: Asked) -> tuple[Array, Named]:
    """Of an opened layer; see the head of this file."""
    f = linear
    du = f.output_rotated(g)
    scaled = du * f.gain
    named = _of_scales(f, x, y, g, du, asked)
    z = f.rotated(x) if f.left is not None else None
    dz = np.zeros_like(x) if f.codes is None else (scaled * f.row_scales) @ f.codes
    if f.left is not None and f.right is not None and z is not None:
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


def _of_scales(f: OpenedLinear, x: Array, y: Array, g: Array, du: Array, asked: Asked) -> Named:
    """Gradients at what multiplies outputs, in their basis and in that of the codes.

    The products are not computed again: they are taken out of y, unless a factor is near 0.
    """
    named = only(asked, bias=lambda: g.sum(axis=0), output=lambda: g)
    if not {"gain", "row_scales", "signs_out"} & set(asked):
        return named
    before = _before_signs(f, x, y)
    of_signs = (g * before).sum(axis=0)
    signed = of_signs if f.signs_out is None else of_signs * f.signs_out
    return named | only(
        asked,
        gain=lambda: _of_gain(f, x, du, signed),
        row_scales=lambda: _of_row_scales(f, x, before, du),
        signs_out=lambda: of_signs,
    )


def _before_signs(f: OpenedLinear, x: Array, y: Array) -> Array:
    """``M_mT u``: what the signs of outputs multiply."""
    if f.signs_out is not None and np.abs(f.signs_out).min() < _LEAST:
        return f.before_signs(f.weighed(f.rotated(x)) * f.gain)
    unbiased = y if f.bias is None else y - f.bias
    return unbiased if f.signs_out is None else unbiased / f.signs_out


def _of_gain(f: OpenedLinear, x: Array, du: Array, signed: Array) -> Array:
    """``du . u / gain``, which no rotation changes: the sum of what the gradient at signs has."""
    if f.gain[0] == 0:
        return np.array([np.vdot(du, f.weighed(f.rotated(x)))], du.dtype)
    return np.array([signed.sum() / f.gain[0]], du.dtype)


def _of_row_scales(f: OpenedLinear, x: Array, before: Array, du: Array) -> Array:
    """They multiply rows of the codes; where there are none, nothing depends on them."""
    if f.codes is None:
        return np.zeros_like(f.row_scales)
    if np.abs(f.row_scales).min() < _LEAST:
        products = (f.rotated(x) @ f.codes.T) * f.gain
    else:
        products = f.mixed(before)
        if f.left is not None and f.right is not None:
            products -= (f.scaled(f.rotated(x) @ f.right.T) @ f.left) * f.gain
        products /= f.row_scales
    found: Array = (du * products).sum(axis=0)
    return found


def adapted(
    linear: AdaptedLinear, x: Array, y: Array, g: Array, asked: Asked
) -> tuple[Array, Named]:
    """Of a layer with an adapter beside it: that of the layer, and of the adapter."""
    pull, _ = LINEARS[type(linear.inner)]
    of_inner, _ = pull(linear.inner, x, y, g, ())
    return linear.pulled(x, g, of_inner, asked)


#: Kind of linear layer to its backward pass and the arrays that can be asked for.
LINEARS: dict[type, tuple[_Pull, tuple[str, ...]]] = {
    DenseLinear: (dense, ("weight", "bias")),
    OpenedLinear: (packed, OpenedLinear.ARRAYS),
    AdaptedLinear: (adapted, AdaptedLinear.ARRAYS),
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
    for place, (linear, y, g) in enumerate(zip(op.linears, step.made, grads, strict=True)):
        prefix = f"{place}."
        wanted = {name.removeprefix(prefix) for name in asked if name.startswith(prefix)}
        linear = opened(linear)
        pull, _ = LINEARS[type(linear)]
        of_x, own = pull(linear, rows_of(x), rows_of(y), rows_of(g), wanted)
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
