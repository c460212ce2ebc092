"""The backward pass of a model: one block at a time, whose values are computed again.

The forward pass keeps the residual stream before every block, and all values of the first blocks,
up to a number of bytes. From the top down each other block is run once more, on one part of the
batch after the other, all values of that part kept while the rules take the gradient to its input.

Memory: 4 bytes for each token of the batch, channel and block; one block's weights in float32; for
each thread all values of one part in one block, and `HEAD_ROWS` rows of logits with what the loss
makes of them. Time: about three forward passes, where only few arrays are asked for; two of blocks
whose values are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from lrc.base.threads import chunks, ordered_map
from lrc.models.base import Model, Stack
from lrc.models.speech import needs_audio
from lrc.models.sweep import Part
from lrc.nn.memory import MEMORY
from lrc.nn.ops import LOGITS, STREAM, Pass, Values
from lrc.refine.gradients import OPENING, Gradients, Loss, Ops, Place, Programs
from lrc.refine.program import forward, forward_kept, pull
from lrc.refine.vjp import Array, ByPlace, Step

#: Is shown a program, and the operations that were run of it for each part of the batch.
See: TypeAlias = Callable[[Place, Sequence[Sequence[Step]]], None]
#: Rows whose logits exist at the same time, for each thread.
HEAD_ROWS = 128


@dataclass
class _Kept:
    """Values before a program, of every part of the batch."""

    place: Place
    load: Callable[[], Ops]
    values: list[dict[str, Array]]
    passes: list[Pass]
    steps: list[list[Step]] | None = None


def _bytes(kept: _Kept) -> int:
    """Of all values that were kept of a program."""
    made = [y for steps in kept.steps or () for step in steps for y in step.made]
    return sum(y.nbytes for y in made)


def _forward_alone(ops: Ops, values: Values, at: Pass) -> tuple[dict[str, Array], list[Step]]:
    return forward(ops, values, at), []


class Backward:
    """Losses of a model and their gradients.

    Parameters
    ----------
    model : Model
    programs : Programs
    threads : int
        Parts worked on at the same time; never changes a bit.
    dtype
        Of all values: float32, or float64 to check gradients.
    keeps : int
        Bytes of values that are kept instead of computed again; never changes a bit.
    """

    def __init__(
        self,
        model: Model,
        programs: Programs,
        threads: int = 1,
        dtype: DTypeLike = np.float32,
        keeps: int = 0,
    ) -> None:
        self._model, self._programs = model, programs
        self._threads, self._dtype, self._keeps = threads, np.dtype(dtype), keeps

    def loss(self, parts: Sequence[Part], loss: Loss) -> float:
        """The loss of a batch; no gradient, and nothing is kept for it."""
        tail, _ = self._forward(parts, keep=False)
        return sum(value for value, _, _ in self._at_logits(tail, loss, pulls=False))

    def gradients(
        self, parts: Sequence[Part], loss: Loss, found: Gradients | None = None
    ) -> Gradients:
        """The loss of a batch and its gradients.

        Parameters
        ----------
        parts : sequence of (B, T) token ids, or tuples of the inputs of each stack
            What is worked on together: all values of one in one block have to fit in memory.
        loss : Loss
        found : Gradients, optional
            What they are added to, part by part and in the order of the parts; new ones otherwise.

        Raises
        ------
        UnsupportedModelError
            An operation has no rule.
        SpecError
            The model hears, and token ids are all that is given; or sequences are too long.
        """
        tail, kept = self._forward(parts, keep=True)
        found = Gradients() if found is None else found
        streams: list[Array] = []
        for value, g, named in self._at_logits(tail, loss, pulls=True):
            found.loss += value
            streams.append(g)
            found.add(tail.place, named)
        of_memory: list[Array | None] = [None for _ in parts]
        while kept:
            now = kept.pop()
            is_tail = now.place.part == len(self._model.stacks[now.place.stack])
            above = [{MEMORY: m} for m in of_memory] if is_tail else [{STREAM: g} for g in streams]
            for part, (below, named) in enumerate(self._pulled(now, above)):
                streams[part] = below[STREAM]
                found.add(now.place, named)
                if MEMORY in below:
                    other = of_memory[part]
                    of_memory[part] = below[MEMORY] if other is None else other + below[MEMORY]
            if now.place.part == OPENING:
                found.entries[now.place.stack] = list(streams)
        return found

    def look(self, parts: Sequence[Part], see: See) -> None:
        """Show every program but the last tail, with its operations as they ran, one at a time."""
        self._forward(parts, keep=False, see=see)

    def _forward(
        self, parts: Sequence[Part], *, keep: bool, see: See | None = None
    ) -> tuple[_Kept, list[_Kept]]:
        """Values before the last tail, and before every program below it."""
        model = self._model
        inputs = [part if isinstance(part, tuple) else (part,) for part in parts]
        if {len(of) for of in inputs} != {len(model.stacks)}:
            raise needs_audio()
        model.check_length(max(of[-1].shape[1] for of in inputs))
        given: list[dict[str, Array]] = [{} for _ in inputs]
        kept: list[_Kept] = []
        for index, stack in enumerate(model.stacks):
            now = self._opened(index, stack, [of[index] for of in inputs], given)
            for part in range(len(stack) + 1):
                before = self._keeps - sum(map(_bytes, kept)) if keep else 0
                values = self._moved(now, keep=before > 0 or see is not None)
                if see is not None:
                    see(now.place, now.steps or [])
                if _bytes(now) > before:
                    now.steps = None
                if keep:
                    kept.append(now)
                load = self._load(Place(index, part), stack)
                now = _Kept(Place(index, part), load, values, now.passes)
            if stack is not model.stacks[-1]:
                given = [{MEMORY: values[MEMORY]} for values in self._moved(now, (MEMORY,))]
                if keep:
                    kept.append(now)
        return now, kept

    def _opened(
        self, index: int, stack: Stack, inputs: Sequence[Any], given: Sequence[dict[str, Array]]
    ) -> _Kept:
        """Values before the opening of a stack."""
        openings = [stack.opening(x) for x in inputs]
        place, raw = Place(index, OPENING), openings[0].ops
        values = [
            {**more, STREAM: opening.entry.astype(self._dtype, copy=False)}
            for more, opening in zip(given, openings, strict=True)
        ]
        passes = [Pass(opening.positions) for opening in openings]
        return _Kept(place, lambda: self._programs.ops(place, raw), values, passes)

    def _load(self, place: Place, stack: Stack) -> Callable[[], Ops]:
        def load() -> Ops:
            last = place.part == len(stack)
            raw = stack.tail() if last else stack.load_block(place.part).ops()
            return self._programs.ops(place, raw)

        return load

    def _moved(
        self, kept: _Kept, wanted: Sequence[str] = (STREAM, MEMORY), *, keep: bool = False
    ) -> list[dict[str, Array]]:
        """Values after a program: those that later ones may read; ``keep``: all others, too."""
        ops = kept.load()

        def work(part: int) -> tuple[dict[str, Array], list[Step]]:
            run = forward_kept if keep else _forward_alone
            found, steps = run(ops, kept.values[part], kept.passes[part])
            return {name: found[name] for name in wanted if name in found}, steps

        made = list(ordered_map(work, range(len(kept.values)), self._threads))
        kept.steps = [steps for _, steps in made] if keep else None
        return [values for values, _ in made]

    def _pulled(
        self, kept: _Kept, above: Sequence[Any]
    ) -> Iterator[tuple[dict[str, Array], ByPlace]]:
        """Gradients before a program, of every part."""
        ops = kept.load() if kept.steps is None else [step.op for step in kept.steps[0]]
        asked = self._programs.asked(kept.place, tuple(ops))

        def work(part: int) -> tuple[dict[str, Array], ByPlace]:
            if kept.steps is None:
                _, steps = forward_kept(ops, kept.values[part], kept.passes[part])
            else:
                steps = kept.steps[part]
            return pull(steps, above[part], asked)

        return ordered_map(work, range(len(kept.values)), self._threads)

    def _at_logits(
        self, tail: _Kept, loss: Loss, *, pulls: bool
    ) -> list[tuple[float, Array, ByPlace]]:
        """Loss, gradient at the last residual stream, and at arrays of the tail, of each part.

        Some rows of logits at a time. Where nothing ``pulls``, the loss alone.
        """
        ops, at = tail.load(), Pass(np.arange(0))
        asked = self._programs.asked(tail.place, ops) if pulls else {}

        def work(part: int) -> tuple[float, Array, ByPlace]:
            h = tail.values[part][STREAM]
            scored = h[:, loss.scored]
            rows = np.ascontiguousarray(scored).reshape(-1, h.shape[-1])
            total, found = Gradients(), np.zeros_like(rows)
            for chunk in chunks(len(rows), HEAD_ROWS):
                values, steps = forward_kept(ops, {STREAM: rows[chunk]}, at)
                value, g = loss(part, chunk, values[LOGITS])
                total.loss += value
                if pulls:
                    below, named = pull(steps, {LOGITS: g}, asked)
                    found[chunk] = below[STREAM]
                    total.add(tail.place, named)
            gradient = np.zeros_like(h)
            gradient[:, loss.scored] = found.reshape(scored.shape)
            return total.loss, gradient, total.arrays.get(tail.place, {})

        return list(ordered_map(work, range(len(tail.values)), self._threads))
