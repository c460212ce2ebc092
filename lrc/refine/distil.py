"""Feature distillation of one block: its factors learn to give what the original's block gives.

Both streams teach. From the original's inputs and from those that the compressed layers before
give, the block is to leave what the original leaves; nothing above the block is looked at, and no
gradient leaves it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from lrc.base.threads import ordered_map
from lrc.linalg.norms import rms
from lrc.nn.ops import STREAM, Op, Pass, Values
from lrc.refine.adam import AdamW, cosine_rate
from lrc.refine.features import feature_loss
from lrc.refine.program import forward, forward_kept, pull
from lrc.refine.rules import arrays, with_arrays
from lrc.refine.vjp import Array, ByPlace
from lrc.spec.refine import DistilSpec

Ops: TypeAlias = tuple[Op, ...]
#: An array of a block: the place of its operation, and its name there.
Key: TypeAlias = tuple[int, str]


@dataclass(frozen=True)
class Lesson:
    """Some windows: values before the block in one stream, and the residual stream to be left.

    ``target`` is (B, T, hidden).
    """

    values: Values
    target: Array


@dataclass(frozen=True)
class Learned:
    """What was learned.

    Attributes
    ----------
    arrays : dict
        Arrays by place of the operation and name; those of the start where nothing was better.
    before, after : float
        Loss a token on the windows that were held out.
    epochs : int
        How often all others were seen.
    """

    arrays: ByPlace
    before: float
    after: float
    epochs: int


def distil(
    ops: Ops,
    start: ByPlace,
    lessons: Sequence[Sequence[Lesson]],
    spec: DistilSpec,
    *,
    seed: int,
    threads: int = 1,
) -> Learned:
    """Adapt arrays of a block so that it gives what its teacher gives.

    Parameters
    ----------
    ops : tuple of Op
        The student's block, packed layers opened.
    start : ByPlace
        The arrays that change, by place of the operation and name.
    lessons : sequence of sequences of Lesson
        Those of one element belong to the same windows, one a stream, and are one step together.
        One element in ``spec.held_out`` is held out, and decides when to stop.
    seed : int
        Decides the order of the steps.
    threads : int
        Never changes a bit.

    Notes
    -----
    Objective: the mean over tokens and streams of `feature_loss`. Law: the loss on what was held
    out is never above that of ``start``. Steps are those of Adam, the rate falling to 0 on a half
    cosine over ``spec.epochs``; the best epoch is kept, and learning stops after
    ``spec.patience`` epochs that were no better. Cost of an epoch: about three forward passes of
    the block. Memory: all values of one element's lessons in the block, and four times the arrays.
    Source: Lillama, arXiv 2412.16719; the start, the schedule and the stop are our own.
    """
    heldout = [lesson for step in lessons[:: spec.held_out] for lesson in step]
    taught = [step for i, step in enumerate(lessons) if i % spec.held_out]
    best = now = _flat(start)
    before = least = mean_loss(changed(ops, start), heldout, threads)
    units = {key: array.dtype.type(rms(array) or 1.0) for key, array in now.items()}
    adam, rng, worse, epochs = AdamW[Key](), np.random.default_rng(seed), 0, 0
    steps = spec.epochs * len(taught)
    while taught and epochs < spec.epochs and worse < spec.patience:
        for index, chosen in enumerate(rng.permutation(len(taught))):
            step = epochs * len(taught) + index
            found = _flat(_gradients(ops, _nested(now), taught[chosen], threads))
            # In units of each array's size, one rate suits all.
            moved = adam.moved(
                {key: now[key] / units[key] for key in found},
                {key: np.asarray(g * units[key], np.float32) for key, g in found.items()},
                spec.rate * cosine_rate(step, steps, 0),
            )
            now = now | {key: x * units[key] for key, x in moved.items()}
        epochs, loss = epochs + 1, mean_loss(changed(ops, _nested(now)), heldout, threads)
        best, worse = (now, 0) if loss < least else (best, worse + 1)
        least = min(loss, least)
    return Learned(_nested(best), before, least, epochs)


def _flat(arrays: ByPlace) -> dict[Key, Array]:
    return {(place, name): a for place, named in arrays.items() for name, a in named.items()}


def _nested(arrays: Mapping[Key, Array]) -> ByPlace:
    found = ByPlace()
    for (place, name), array in arrays.items():
        found.setdefault(place, {})[name] = array
    return found


def changed(ops: Ops, new: ByPlace) -> Ops:
    """The operations with other arrays."""
    return tuple(with_arrays(op, new.get(place, {})) for place, op in enumerate(ops))


def factors(ops: Ops) -> ByPlace:
    """L^T and R of every layer that has them, components of equal length in both."""
    found = {
        place: _balanced({n: a for n, a in arrays(op).items() if n.endswith((".left", ".right"))})
        for place, op in enumerate(ops)
    }
    return ByPlace({place: named for place, named in found.items() if named})


def _balanced(named: Mapping[str, Array]) -> dict[str, Array]:
    """Factors whose components were scaled to be as long in L as in R: one rate suits both."""
    found = {}
    for name in (name for name in named if name.endswith(".left")):
        other = name.removesuffix("left") + "right"
        of_left, of_right = (np.linalg.norm(named[side], axis=1) for side in (name, other))
        alive = (of_left > 0) & (of_right > 0)
        ratio = np.divide(of_right, of_left, out=np.ones_like(of_left), where=alive)
        scale = np.sqrt(ratio)[:, None].astype(named[name].dtype)
        found[name], found[other] = named[name] * scale, named[other] / scale
    return found


def mean_loss(ops: Ops, lessons: Sequence[Lesson], threads: int = 1) -> float:
    """Loss of a block a token."""

    def loss(lesson: Lesson) -> tuple[float, int]:
        made = forward(ops, lesson.values, _pass(lesson))[STREAM]
        found, target = _rows(made), _rows(lesson.target)
        return feature_loss(found, target)[0], len(found)

    total = list(ordered_map(loss, lessons, threads))
    return sum(value for value, _ in total) / max(sum(rows for _, rows in total), 1)


def _gradients(ops: Ops, new: ByPlace, step: Sequence[Lesson], threads: int) -> ByPlace:
    """Of the mean loss a token, summed over streams in their order."""
    student = changed(ops, new)
    asked = {place: tuple(named) for place, named in new.items()}
    tokens = sum(_rows(lesson.target).shape[0] for lesson in step)

    def one(lesson: Lesson) -> ByPlace:
        found, steps = forward_kept(student, lesson.values, _pass(lesson))
        _, g = feature_loss(_rows(found[STREAM]), _rows(lesson.target))
        g /= tokens
        return pull(steps, {STREAM: g.reshape(lesson.target.shape)}, asked)[1]

    total = ByPlace()
    for found in ordered_map(one, step, threads):
        for place, named in found.items():
            own = total.setdefault(place, {})
            for name, g in named.items():
                own[name] = own[name] + g if name in own else g
    return total


def _pass(lesson: Lesson) -> Pass:
    return Pass(np.arange(lesson.target.shape[1]))


def _rows(values: Array) -> Array:
    return values.reshape(-1, values.shape[-1])
