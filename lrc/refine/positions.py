"""Backward pass of what moves numbers: rotary positions and splits."""

from __future__ import annotations

import numpy as np

from lrc.nn.ops import Op, Rotate, Split
from lrc.nn.rope import apply_rope
from lrc.refine.vjp import Array, Asked, Pulled, Rule, Step


def rotate(step: Step, grads: tuple[Array, ...], asked: Asked) -> Pulled:
    """Of a rotation times a factor: the rotation by the negative angles, times the factor."""
    op: Rotate = step.op
    (g,) = grads
    cos, sin = step.at.angles(op.rope)
    heads = g.reshape(*g.shape[:-1], -1, op.head_dim or op.rope.head_dim)
    return Pulled((apply_rope(heads, cos, -sin, op.rope.interleaved).reshape(g.shape),))


def split(step: Step, grads: tuple[Array, ...], asked: Asked) -> Pulled:
    """Of stretches: all of them, where they were."""
    op: Split = step.op
    x = step.found[op.source]
    parts = [
        g.reshape(*x.shape[:-1], op.groups, width)
        for g, width in zip(grads, op.widths, strict=True)
    ]
    return Pulled((np.concatenate(parts, axis=-1).reshape(x.shape),))


RULES: dict[type[Op], Rule] = {Rotate: Rule(rotate), Split: Rule(split)}
