"""Backward pass of Mamba's scan and of its step sizes.

The state of every token is computed again, for one sequence at a time: 12 bytes for each token,
state and channel, as its gradient and its decay are needed too.
"""

from __future__ import annotations

import numpy as np

from lrc.nn.ops import Op, Pass, Values
from lrc.nn.state_space import SelectiveScan, Softplus
from lrc.refine.elementwise import sigmoid
from lrc.refine.vjp import Array, Asked, Named, Pulled, Rule, Step, only
from lrc_kernels import scan_reference


def softplus(step: Step, grads: tuple[Array, ...], asked: Asked) -> Pulled:
    """Of log(1 + exp(x + b)) between limits: ``g sigmoid(x + b)``, and 0 at a limit."""
    op: Softplus = step.op
    (g,), (y,) = grads, step.made
    x = step.found[op.value]
    inside = (y > op.least) & (y < op.most)
    dx = g * inside * sigmoid(x if op.bias is None else x + op.bias)
    named = only(asked, bias=lambda: dx.reshape(-1, dx.shape[-1]).sum(axis=0))
    return Pulled((dx,), named)


def _wide_softplus(op: Softplus, values: Values, at: Pass) -> tuple[Array, ...]:
    x = values[op.value]
    y = scan_reference.softplus(x if op.bias is None else x + op.bias)
    return (np.clip(y, op.least, op.most),)


def selective_scan(step: Step, grads: tuple[Array, ...], asked: Asked) -> Pulled:
    """Of ``h' = a h + dt B x``, a = exp(dt A), ``y = C h' + D x``.

    The gradient G at a state is ``C g`` of its own token, and a G of the next. From it and the
    states all others are sums: at B ``G dt x``, at C ``g h'``, at dt ``x B.G + A.(a h G)``.
    """
    op: SelectiveScan = step.op
    given = [step.found[name] for name in op.reads]
    made = [np.empty_like(x) for x in given]
    totals: Named = {}
    for b in range(len(given[0])):
        x, dt, B, C = (v[b] for v in given)
        found, named = _one_sequence(op, x, dt, B, C, grads[0][b], asked)
        for out, value in zip(made, found, strict=True):
            out[b] = value
        totals = {k: v + totals[k] if k in totals else v for k, v in named.items()}
    return Pulled(tuple(made), totals)


def _one_sequence(
    op: SelectiveScan, x: Array, dt: Array, B: Array, C: Array, g: Array, asked: Asked
) -> tuple[tuple[Array, ...], Named]:
    """Gradients at x, dt (T, channels), B and C (T, states)."""
    driven = dt * x
    decay = np.exp(dt[:, None, :] * op.decay)
    states = driven[:, None, :] * B[:, :, None]
    of_states = g[:, None, :] * C[:, :, None]
    for t in range(1, len(x)):
        states[t] += decay[t] * states[t - 1]
    for t in range(len(x) - 2, -1, -1):
        of_states[t] += decay[t + 1] * of_states[t + 1]
    into = np.matmul(B[:, None], of_states)[:, 0]
    of_B, of_C = (np.matmul(s, v[..., None])[..., 0] for s, v in ((of_states, driven), (states, g)))
    # From here on decay holds what reaches dt A.
    decay *= of_states
    decay[0] = 0
    decay[1:] *= states[:-1]
    named = only(
        asked,
        decay=lambda: np.einsum("tnc,tc->nc", decay, dt),
        skip=lambda: (g * x).sum(axis=0),
    )
    of_dt = x * into + np.einsum("tnc,nc->tc", decay, op.decay)
    return (g * op.skip + dt * into, of_dt, of_B, of_C), named


def _wide_scan(op: SelectiveScan, values: Values, at: Pass) -> tuple[Array, ...]:
    before = np.zeros(op.decay.shape)
    sequences = zip(*(values[name] for name in op.reads), strict=True)
    found = [
        scan_reference.selective_scan(x, dt, op.decay, B, C, op.skip, before)[0]
        for x, dt, B, C in sequences
    ]
    return (np.stack(found),)


RULES: dict[type[Op], Rule] = {
    Softplus: Rule(softplus, ("bias",), _wide_softplus),
    SelectiveScan: Rule(selective_scan, ("decay", "skip"), _wide_scan),
}
