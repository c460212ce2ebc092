"""Backward pass of convolutions."""

from __future__ import annotations

import numpy as np

from lrc.nn.convolution import Convolve
from lrc.nn.ops import Op, Pass, Values
from lrc.nn.state_space import Convolve as CausalConvolve
from lrc.refine.elementwise import silu_slope
from lrc.refine.vjp import Array, Asked, Pulled, Rule, Step, only, rows_of
from lrc_kernels import scan_reference


def convolve(step: Step, grads: tuple[Array, ...], asked: Asked) -> Pulled:
    """Of a convolution over time: each place of the kernel is a product of its own."""
    op: Convolve = step.op
    x, (g,) = step.found[op.value], grads
    (batch, moments, n), width = x.shape, op.weight.shape[2]
    padded = np.zeros((batch, moments + width - 1, n), x.dtype)
    inside = slice(width // 2, width // 2 + moments)
    total = np.zeros_like(padded)
    padded[:, inside] = x
    of_weight = np.zeros(op.weight.shape, g.dtype)
    for place in range(width):
        seen = slice(place, place + moments, op.stride)
        total[:, seen] += g @ op.weight[:, :, place]
        if "weight" in asked:
            of_weight[:, :, place] = rows_of(g).T @ rows_of(padded[:, seen])
    named = only(asked, weight=lambda: of_weight, bias=lambda: g.sum(axis=(0, 1)))
    return Pulled((total[:, inside],), named)


def _taps(op: CausalConvolve, x: Array) -> list[Array]:
    """What each row of the weight multiplies: x (B, T, channels), so many tokens late."""
    late = len(op.weight) - 1
    padded = np.concatenate([np.zeros((len(x), late, x.shape[2]), x.dtype), x], axis=1)
    return [padded[:, k : k + x.shape[1]] for k in range(late + 1)]


def causal_convolve(step: Step, grads: tuple[Array, ...], asked: Asked) -> Pulled:
    """Of silu(u), u the convolution of each channel: silu'(u) g, taken back by the same taps."""
    op: CausalConvolve = step.op
    x, (g,) = step.found[op.value], grads
    taps = _taps(op, x)
    u = sum(w * tap for w, tap in zip(op.weight, taps, strict=True))
    du = g * silu_slope(u if op.bias is None else u + op.bias)
    total = np.zeros_like(x)
    for late, w in enumerate(op.weight[::-1]):
        total[:, : x.shape[1] - late] += w * du[:, late:]
    named = only(
        asked,
        weight=lambda: np.stack([(du * tap).sum(axis=(0, 1)) for tap in taps]),
        bias=lambda: du.sum(axis=(0, 1)),
    )
    return Pulled((total,), named)


def _wide_causal(op: CausalConvolve, values: Values, at: Pass) -> tuple[Array, ...]:
    before = np.zeros(op.states[op.state])
    found = [scan_reference.causal_conv(x, op.weight, op.bias, before, silu=True)[0]
             for x in values[op.value]]  # fmt: skip
    return (np.stack(found),)


RULES: dict[type[Op], Rule] = {
    Convolve: Rule(convolve, ("weight", "bias")),
    CausalConvolve: Rule(causal_convolve, ("weight", "bias"), _wide_causal),
}
