"""AdamW down a loss on examples, at a rate that a trial finds; held-out ones choose the result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol

from lrc.base.progress import Progress
from lrc.refine.adam import F32, AdamW, Key, cosine_rate
from lrc.refine.rate import trial_rate


class Lesson(Protocol[Key]):
    """Examples, and the loss of some of them at moves away from where numbers begin."""

    @property
    def held_out(self) -> Sequence[int]:
        """Examples that are not learned from: at least one."""
        ...

    @property
    def batches(self) -> Sequence[Sequence[int]]:
        """The examples of every step."""
        ...

    def loss(self, moves: Mapping[Key, F32], which: Sequence[int]) -> float:
        """Mean loss of some examples, as stored."""
        ...

    def gradient(self, moves: Mapping[Key, F32], which: Sequence[int]) -> Mapping[Key, F32]:
        """Of the loss of some examples, at moves."""
        ...


@dataclass(frozen=True)
class Descent(Generic[Key]):
    """The best moves, those of the least loss of what is held out, and what came of them.

    ``before``, ``after``: that loss, without moves and with them; ``steps`` were made, at ``rate``
    at most.
    """

    moves: Mapping[Key, F32]
    before: float
    after: float
    steps: int
    rate: float


def descend(
    lesson: Lesson[Key], start: Mapping[Key, F32], checks: int, progress: Progress
) -> Descent[Key]:
    """Take a step a batch, from moves ``start``.

    The rate rises over the first tenth of the steps, then falls to 0. Held-out examples are looked
    at ``checks`` times, evenly: never is the result worse on them than the start.
    """
    steps, moves = len(lesson.batches), dict(start)
    best, before = moves, lesson.loss(moves, lesson.held_out)
    least, adam = before, AdamW[Key]()
    first, some = lesson.gradient(moves, lesson.batches[0]), lesson.held_out[::2]
    rate = trial_rate(
        lambda r: lesson.loss(AdamW[Key]().moved(start, first, r), some), lesson.loss(moves, some)
    )
    looks = {steps * (i + 1) // checks for i in range(checks)} - {0}
    with progress.bar("learning", steps, "step") as advance:
        for step, batch in enumerate(lesson.batches):
            gradient = lesson.gradient(moves, batch)
            factor = cosine_rate(step, steps, max(1, steps // 10))
            moves = adam.moved(moves, gradient, rate * factor)
            if step + 1 in looks and (now := lesson.loss(moves, lesson.held_out)) < least:
                least, best = now, moves
            advance()
    return Descent(best, before, least, steps, rate)
