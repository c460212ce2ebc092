"""Laws of gradients: what a rule of the backward pass gives is the slope of the loss.

Slopes are central differences in float64 along random directions, one for each value and each
array, so that a rule of an operation, of this library or another, inherits its tests from here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.models.base import Model
from lrc.models.sweep import Part
from lrc.nn.ops import Op, Pass
from lrc.refine.backward import Backward
from lrc.refine.changed import Changed
from lrc.refine.gradients import OPENING, Place
from lrc.refine.program import pull
from lrc.refine.rules import arrays, rule_of, with_arrays, with_opened
from lrc.refine.vjp import Array, ByPlace, Named, Step
from lrc.testing.tolerance import assert_within, eps

#: Half the distance of the two points of a difference.
REACH = 1e-5


def check_slope(
    loss: Callable[[float], float], g: Array, direction: Array, magnitude: float, what: str
) -> None:
    """``loss(t)``, at ``t`` times a direction from where it is taken, has the slope ``g`` there.

    The bound: operations have constants of float32, and the loss, whose terms add up like
    ``magnitude``, is rounded to float64.
    """
    slope = (loss(REACH) - loss(-REACH)) / (2 * REACH)
    products = g * direction
    bound = 8 * eps(np.float32) * float(np.abs(products).sum())
    bound += 8 * eps(np.float64) * magnitude / REACH
    assert_within(abs(slope - float(products.sum())), bound, f"slope along {what}")


def check_rule(
    op: Op, values: Mapping[str, NDArray[Any]], at: Pass, seed: int, decided: Collection[str] = ()
) -> None:
    """Gradients of an operation at all that it reads and all of its arrays.

    Parameters
    ----------
    op : Op
    values : mapping
        What it reads, away from where it has no derivative.
    at : Pass
    seed : int
        Of the directions, and of the gradient from above.
    decided : collection of str
        Values whose zeros stay zero: which experts a token has.
    """
    rng, rule = np.random.default_rng(seed), rule_of(op)
    wide: dict[str, Array] = {name: np.asarray(values[name], np.float64) for name in op.reads}
    own: Named = {name: np.asarray(value, np.float64) for name, value in arrays(op).items()}
    made: tuple[Array, ...] = rule.run(with_arrays(op, own), wide, at)
    above: list[Array] = [rng.standard_normal(y.shape) for y in made]
    step = Step(with_arrays(op, own), wide, made, at)
    below, found = pull([step], dict(zip(op.writes, above, strict=True)), {0: tuple(own)})
    magnitude = sum(float(np.abs(y * g).sum()) for y, g in zip(made, above, strict=True))

    def loss(new: Mapping[str, Array], parameters: Mapping[str, Array]) -> float:
        ys = rule.run(with_arrays(op, {**own, **parameters}), {**wide, **new}, at)
        return sum(float(np.vdot(y, g)) for y, g in zip(ys, above, strict=True))

    def check(name: str, x: Array, g: Array, move: Callable[[Array], float]) -> None:
        d = rng.standard_normal(x.shape) * ((x != 0) if name in decided else 1)
        assert g.shape == x.shape, f"the gradient at {name} has shape {g.shape}, not {x.shape}"
        check_slope(lambda t: move(x + t * d), g, d, magnitude, name)

    for name, x in wide.items():
        check(name, x, below.get(name, np.zeros_like(x)), lambda x, n=name: loss({n: x}, {}))  # type: ignore[misc]
    for name, x in own.items():
        check(name, x, found[0][name], lambda x, n=name: loss({}, {n: x}))  # type: ignore[misc]


class Weighted:
    """A loss of logits that is smooth: the sum of squares of some tokens', weighed at random."""

    scored = slice(1, None)

    def __init__(self, shapes: Sequence[tuple[int, int]], seed: int) -> None:
        rng = np.random.default_rng(seed)
        self._weights = [0.5 + rng.random(shape) for shape in shapes]

    def __call__(self, part: int, rows: slice, logits: Array) -> tuple[float, Array]:
        """Half the sum of ``w x^2``, and ``w x``."""
        g = logits * self._weights[part][rows]
        return 0.5 * float(np.vdot(g, logits)), g


def model_arrays(model: Model, parts: Sequence[Part]) -> dict[Place, ByPlace]:
    """Every array of every program of a model, in float64."""
    found: dict[Place, ByPlace] = {}
    for s, stack in enumerate(model.stacks):
        first = parts[0][s] if isinstance(parts[0], tuple) else parts[0]
        programs = [stack.opening(first).ops]
        programs += [stack.load_block(index).ops() for index in range(len(stack))]
        for part, ops in enumerate([*programs, stack.tail()], OPENING):
            named = {i: arrays(op) for i, op in enumerate(with_opened(ops))}
            found[Place(s, part)] = {
                i: {name: np.asarray(value, np.float64) for name, value in own.items()}
                for i, own in named.items() if own
            }  # fmt: skip
    return found


def check_model_gradients(model: Model, parts: Sequence[Part], seed: int) -> None:
    """Gradients at every array of every program of a model, along one direction.

    Each array's is moved by its own random numbers, and all of them at once: a wrong one is seen,
    whatever the others are. Which experts a token has is what it was.
    """
    rng = np.random.default_rng(seed)
    own = model_arrays(model, parts)
    loss = Weighted([_scored_shape(model, part) for part in parts], seed)
    found = Backward(model, Changed(own), dtype=np.float64).gradients(parts, loss)
    direction = {
        place: {i: {n: rng.standard_normal(v.shape) * np.abs(v).mean() for n, v in named.items()}
                for i, named in by_op.items()}
        for place, by_op in own.items()
    }  # fmt: skip

    def value(t: float) -> float:
        moved = {
            place: {i: {n: v + t * direction[place][i][n] for n, v in named.items()}
                    for i, named in by_op.items()}
            for place, by_op in own.items()
        }  # fmt: skip
        return Backward(model, Changed(moved), dtype=np.float64).loss(parts, loss)

    pairs = [
        (found.arrays[place][i][n], direction[place][i][n])
        for place, by_op in own.items() for i, named in by_op.items() for n in named
        if i in found.arrays[place]
    ]  # fmt: skip
    g, d = (np.concatenate([x[k].ravel() for x in pairs]) for k in (0, 1))
    check_slope(value, g, d, 2 * found.loss, "every array")


def _scored_shape(model: Model, part: Part) -> tuple[int, int]:
    ids = part[-1] if isinstance(part, tuple) else part
    return len(ids) * (ids.shape[1] - 1), model.vocab_size
