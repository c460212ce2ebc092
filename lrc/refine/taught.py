"""Factors beside a quantized model learn what its original predicts, all of them together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import SILENT, Progress
from lrc.base.threads import chunks
from lrc.models.base import Model
from lrc.models.sweep import sweep
from lrc.refine.adapted import Adapters, as_stored, layers_of
from lrc.refine.adapter import Factors
from lrc.refine.backward import Backward
from lrc.refine.changed import OpenedPrograms
from lrc.refine.descent import descend
from lrc.refine.divergence import LiveTeacher
from lrc.refine.gradients import Place
from lrc.refine.vjp import Array

#: Windows of a step, windows that are held out at most, and how often these are looked at.
_BATCH, _HELD_OUT, _CHECKS = 2, 4, 3
#: Bytes of a batch's values that are kept instead of made again.
_VALUES = 3 << 29
Key = tuple[str, str]


@dataclass(frozen=True)
class Taught:
    """Factors, as float16 stores them, by the name of the matrix.

    ``before``, ``after``: KL divergence a token of held-out windows, without what was learned and
    with it, in nats.
    """

    factors: Mapping[str, Factors]
    before: float
    after: float


def teach(
    student: Model,
    teacher: Model,
    begin: Mapping[str, Factors],
    windows: NDArray[np.integer],
    passes: int,
    *,
    seed: int,
    threads: int = 1,
    progress: Progress = SILENT,
) -> Taught:
    """Factors that follow the gradient of KL(teacher || student with them), from ``begin``.

    Parameters
    ----------
    student, teacher
        Dense models of one architecture.
    begin
        Where factors begin, by the name of a tensor of the student. Those of nothing but zeros
        stay so.
    windows : integers (N, T)
        Text, N at least 2. Some are held out, evenly among all: never are they predicted worse in
        the end.
    passes
        Times that each of the others is learnt from.
    threads
        Never changes a bit.

    Notes
    -----
    Before, both factors of each component are made equally long. A move of one, of L or of R,
    changes the weight by its own size, so that one rate suits all. Memory as of `lrc.refine.tune`.
    """
    parts = [window[None] for window in np.asarray(windows)]
    streams = sweep(teacher.as_stored(), parts, threads, progress, "original")
    places, sizes = _places(student, begin)
    factors = {name: as_balanced(pair) for name, pair in begin.items()}
    lesson = _Lesson(
        student, teacher, places, sizes, factors, parts, streams, passes, seed, threads
    )
    still = {key: np.zeros_like(x) for key, x in lesson.values.items()}
    found = descend(lesson, still, _CHECKS, progress)
    return Taught(lesson.factors(found.moves), found.before, found.after)


def as_balanced(pair: Factors) -> Factors:
    """The same product, up to rounding, of factors whose components have equal root mean squares.

    Examples
    --------
    >>> pair = as_balanced(Factors(np.ones((1, 4)), np.full((1, 2), 4.0)))
    >>> bool(pair.down[0, 0] == pair.up[0, 0] == 2)
    True
    """
    down, up = (np.sqrt(np.mean(np.square(x), axis=1, keepdims=True)) for x in pair)
    ratio = np.sqrt(np.divide(up, down, out=np.ones_like(up), where=(up > 0) & (down > 0)))
    return Factors(pair.down * ratio, pair.up / ratio)


@dataclass(frozen=True)
class _Lesson:
    """Models, where factors lie, and windows with what the original makes of them."""

    student: Model
    teacher: Model
    places: Mapping[Place, Mapping[tuple[int, int], str]]
    sizes: Mapping[str, float]
    begin: Mapping[str, Factors]
    windows: Sequence[NDArray[np.integer]]
    streams: Sequence[Array]
    passes: int
    seed: int
    threads: int

    @cached_property
    def values(self) -> dict[Key, Array]:
        """All numbers that are learned."""
        return {
            (name, side): getattr(self.begin[name], side)
            for name in self.sizes
            for side in ("down", "up")
        }

    @cached_property
    def units(self) -> dict[Key, np.float32]:
        """What a move of one is."""
        found = {}
        for (name, side), x in self.values.items():
            other = self.values[name, "up" if side == "down" else "down"]
            reach = float(np.sqrt(np.mean(np.square(other)) * len(x)))
            found[name, side] = np.float32(self.sizes[name] / reach)
        return found

    def factors(self, moves: Mapping[Key, Array]) -> dict[str, Factors]:
        """Those after moves, rounded to 16 bits; and all others."""
        now = {key: x + self.units[key] * moves[key] for key, x in self.values.items()}
        return {
            name: Factors(*(as_stored(now.get((name, side), getattr(pair, side)))
                            for side in ("down", "up")))
            for name, pair in self.begin.items()
        }  # fmt: skip

    @cached_property
    def held_out(self) -> list[int]:
        """Windows that are not learned from: evenly among all, and at most half."""
        count = len(self.windows)
        held_out = min(_HELD_OUT, count // 2)
        return sorted({(2 * i + 1) * count // (2 * held_out) for i in range(held_out)})

    @cached_property
    def batches(self) -> list[list[int]]:
        """The windows of every step, in an order drawn from the seed."""
        rng, away = np.random.default_rng(self.seed), set(self.held_out)
        learnt = [i for i in range(len(self.windows)) if i not in away]
        order = [[int(i) for i in rng.permutation(learnt)] for _ in range(self.passes)]
        return [one[part] for one in order for part in chunks(len(one), _BATCH)]

    def gradient(self, moves: Mapping[Key, Array], which: Sequence[int]) -> dict[Key, Array]:
        """Of the mean divergence of some windows, at moves."""
        found = self._backward(moves).gradients(*self._parts(which)).arrays
        return {
            (name, side): g * self.units[name, side]
            for place, layers in self.places.items()
            for (at, j), name in layers.items()
            for side in ("down", "up")
            if (g := found.get(place, {}).get(at, {}).get(f"{j}.{side}")) is not None
        }

    def loss(self, moves: Mapping[Key, Array], which: Sequence[int]) -> float:
        """The mean divergence of some windows, with factors as stored."""
        with np.errstate(over="ignore", invalid="ignore"):  # of trials that go too far
            return self._backward(moves).loss(*self._parts(which))

    def _parts(self, which: Sequence[int]) -> tuple[list[NDArray[np.integer]], LiveTeacher]:
        streams = [self.streams[i] for i in which]
        rows = sum(h.shape[0] * h.shape[1] for h in streams)
        return (
            [self.windows[i] for i in which],
            LiveTeacher(self.teacher.head, streams, 1 / rows),
        )

    def _backward(self, moves: Mapping[Key, Array]) -> Backward:
        programs = Adapters(self.places, self.factors(moves), OpenedPrograms())
        return Backward(self.student, programs, self.threads, keeps=_VALUES)


def _places(
    student: Model, begin: Mapping[str, Factors]
) -> tuple[dict[Place, dict[tuple[int, int], str]], dict[str, float]]:
    """Where layers lie whose factors are not zero, and the root mean squares of their weights."""
    alive = {name for name, pair in begin.items() if all(x.any() for x in pair)}
    places: dict[Place, dict[tuple[int, int], str]] = {}
    sizes: dict[str, float] = {}
    for index, stack in enumerate(student.stacks):
        for part in range(len(stack)):
            here = Place(index, part)
            for at, (name, _) in layers_of(student, here).items():
                if name not in alive:
                    continue
                places.setdefault(here, {})[at] = name
                weight = student.source.dense(name)
                sizes[name] = float(np.sqrt(np.mean(np.square(weight), dtype=np.float64)))
    return places, sizes
