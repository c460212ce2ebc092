"""Backward pass of normalisations."""

from __future__ import annotations

import numpy as np

from lrc.nn.ops import Norm, Op
from lrc.refine.vjp import Array, Asked, Pulled, Rule, Step, only, summed


def norm(step: Step, grads: tuple[Array, ...], asked: Asked) -> Pulled:
    """Of ``y = w x / s + b``, s = sqrt(mean(x^2) + eps), x centred first where it is a layer norm.

    With u = x / s and v = g w: the gradient at x is ``(v - u mean(v u)) / s``, centred likewise;
    at w it is the sum of ``g u``.
    """
    op: Norm = step.op
    x, (g,) = step.found[op.source], grads
    shape = (*x.shape[:-1], -1, op.weight.shape[-1])
    stretches, g = x.reshape(shape), g.reshape(shape)
    layer = op.kind == "layer"
    if layer:
        stretches = stretches - stretches.mean(axis=-1, keepdims=True)
    n = stretches.shape[-1]
    scale = 1 / np.sqrt(np.vecdot(stretches, stretches)[..., None] / n + op.eps)
    unit = (stretches * scale).astype(x.dtype, copy=False)
    v = g * op.weight
    inner = v - unit * (np.vecdot(v, unit)[..., None] / n)
    if layer:
        inner -= inner.mean(axis=-1, keepdims=True)
    inner *= scale
    named = only(
        asked,
        weight=lambda: summed(g * unit, op.weight.shape),
        bias=lambda: summed(g, op.weight.shape),
    )
    return Pulled((inner.reshape(x.shape),), named)


RULES: dict[type[Op], Rule] = {Norm: Rule(norm, ("weight", "bias"))}
