"""Backward pass of mixtures of experts: which experts a token has is taken as given."""

from __future__ import annotations

import numpy as np

from lrc.nn.ops import Op
from lrc.nn.routing import Combine, Dispatch, Route, SigmoidGate
from lrc.refine.elementwise import sigmoid
from lrc.refine.vjp import Array, Asked, Pulled, Rule, Step, only, rows_of


def route(step: Step, grads: tuple[Array, ...], asked: Asked) -> Pulled:
    """Of shares: those of a softmax, p (g - p.g), g being 0 where a token does not have an expert.

    ``normalised`` ones are the softmax of those experts alone. Shares that another pass decided
    depend on nothing.
    """
    op: Route = step.op
    if op.target in step.at.decided:
        return Pulled((None,))
    x, (shares,), (g,) = step.found[op.source], step.made, grads
    p = shares
    if not op.normalised:
        p = x @ op.weight.T
        p -= p.max(axis=-1, keepdims=True)
        np.exp(p, out=p)
        p /= p.sum(axis=-1, keepdims=True)
    ds = g * (shares > 0)
    ds -= np.vecdot(ds, p)[..., None]
    ds *= p
    return Pulled((ds @ op.weight,), only(asked, weight=lambda: rows_of(ds).T @ rows_of(x)))


def dispatch(step: Step, grads: tuple[Array, ...], asked: Asked) -> Pulled:
    """Of rows that are gathered: g, in their places. The routing says only which."""
    op: Dispatch = step.op
    x = step.found[op.source]
    total = np.zeros_like(rows_of(x))
    total[op.rows(step.found, step.at)] = grads[0]
    return Pulled((total.reshape(x.shape), None))


def combine(step: Step, grads: tuple[Array, ...], asked: Asked) -> Pulled:
    """Of rows times their shares that are added: ``s g``, ``y.g``, and g at the stream."""
    op: Combine = step.op
    y, (g,) = step.found[op.source], grads
    rows = op.dispatch.rows(step.found, step.at)
    above = rows_of(g)[rows]
    shares = op.dispatch.shares(step.found)[rows, None]
    routing = step.found[op.dispatch.routing]
    of_routing = np.zeros_like(rows_of(routing))
    of_routing[rows, op.dispatch.expert] = np.vecdot(above, y)
    return Pulled((above * shares, of_routing.reshape(routing.shape), g))


def sigmoid_gate(step: Step, grads: tuple[Array, ...], asked: Asked) -> Pulled:
    """Of ``y s``, s = sigmoid(w x): ``s g`` at y, and ``(y.g) s (1 - s)`` at w x."""
    op: SigmoidGate = step.op
    x, y, (g,) = step.found[op.source], step.found[op.value], grads
    s = sigmoid(x @ op.weight.T)
    inner = np.vecdot(y, g)[..., None] * s * (1 - s)
    named = only(asked, weight=lambda: rows_of(inner).T @ rows_of(x))
    return Pulled((inner @ op.weight, g * s), named)


RULES: dict[type[Op], Rule] = {
    Route: Rule(route, ("weight",)),
    Dispatch: Rule(dispatch),
    Combine: Rule(combine),
    SigmoidGate: Rule(sigmoid_gate, ("weight",)),
}
