"""A program of operations, forward with all its values kept, and backward."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from lrc.nn.ops import Op, Pass, Values
from lrc.refine.rules import rule_of
from lrc.refine.vjp import Array, Asked, ByPlace, Step


def forward(ops: Iterable[Op], values: Values, at: Pass) -> dict[str, Array]:
    """All values after ``ops``, in the dtype of those given; see `lrc.nn.ops.run`."""
    now = dict(values)
    for op in ops:
        now.update(zip(op.writes, rule_of(op).run(op, now, at), strict=True))
    return now


def forward_kept(
    ops: Iterable[Op], values: Values, at: Pass
) -> tuple[dict[str, Array], list[Step]]:
    """The same, and every operation with what it read and wrote.

    Memory: all values of the program at once. Nothing else that rules need is kept; they compute
    it again.
    """
    now, steps = dict(values), []
    for op in ops:
        made = rule_of(op).run(op, now, at)
        steps.append(Step(op, {name: now[name] for name in op.reads}, made, at))
        now.update(zip(op.writes, made, strict=True))
    return now, steps


def pull(
    steps: Sequence[Step], grads: Values, asked: Mapping[int, Asked] | None = None
) -> tuple[dict[str, Array], ByPlace]:
    """Gradients before ``steps``, and at their arrays, from those after them.

    Parameters
    ----------
    steps : sequence of Step
        Of `forward_kept`.
    grads : mapping
        Gradients at values after the steps, by name; others are zero.
    asked : mapping, optional
        Names of arrays whose gradients are wanted, by the place of their operation.

    Returns
    -------
    values : dict
        Gradients at the values before the steps that the loss depends on.
    arrays : dict
        Those at the arrays that were asked for, by place and name; none of an operation that the
        loss does not depend on.
    """
    wanted, now, found = asked or {}, dict(grads), ByPlace()
    for place in range(len(steps) - 1, -1, -1):
        step = steps[place]
        above = [now.pop(name, None) for name in step.op.writes]
        if all(g is None for g in above):
            continue
        given = tuple(
            np.zeros_like(y) if g is None else g for g, y in zip(above, step.made, strict=True)
        )
        pulled = rule_of(step.op).pull(step, given, wanted.get(place, ()))
        for name, g in zip(step.op.reads, pulled.values, strict=True):
            if g is not None:  # arrays may be shared: nothing is added to in place
                now[name] = now[name] + g if name in now else g
        if pulled.named:
            found[place] = pulled.named
    return now, found
