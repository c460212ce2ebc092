"""What a tuning works on: a model, its numbers, windows of text, and what the original says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import Progress
from lrc.calibrate.corpus import window_length
from lrc.calibrate.mixture import calibration_windows
from lrc.errors import SpecError
from lrc.models.base import Model
from lrc.models.opened import open_model, open_original
from lrc.models.sweep import sweep
from lrc.parts.packed import PackedCheckpoint
from lrc.refine import store
from lrc.refine.backward import Backward
from lrc.refine.changed import Changed, OpenedPrograms
from lrc.refine.divergence import LiveTeacher
from lrc.refine.gradients import Place
from lrc.refine.options import TuneSpec
from lrc.refine.tunables import Tunable, by_tensor, find_tunables, gathered, used
from lrc.refine.tune_state import Key, TuningRun, Values
from lrc.refine.vjp import Array, Step
from lrc.run.text import Tokenizer
from lrc.spec import CalibrationSpec

#: Bytes of decoded codes, and of values of a batch, that are kept instead of made again.
_CODES, _VALUES = 1 << 30, 3 << 29


@dataclass(frozen=True)
class TuneJob:
    """A model, what is tuned of it, and the tokens with what the original makes of them.

    Values are addressed by `Tunable.key`. ``moves`` of a number are in units of the root mean
    square of those that are stored with it, so that one learning rate suits all.
    """

    source: PackedCheckpoint
    model: Model
    teacher: Model
    spec: TuneSpec
    threads: int
    tunables: list[Tunable]
    windows: Sequence[NDArray[np.integer]]
    streams: Sequence[Array]
    opened: OpenedPrograms = field(default_factory=lambda: OpenedPrograms(_CODES))

    @classmethod
    def open(
        cls, run: TuningRun, against: Path, spec: TuneSpec, threads: int, progress: Progress
    ) -> TuneJob:
        """Open both models, draw windows, and run the original once."""
        model, source = open_model(run.base)
        assert isinstance(source, PackedCheckpoint)
        teacher, dense = open_original(against)
        tunables, missed = find_tunables(source, spec.what)
        if missed:
            progress.note(f"{missed} arrays are made of several tensors: they are not tuned")
        windows = run.windows(lambda: _drawn(spec, dense.path, teacher, threads, progress))
        if len(windows) <= spec.held_out:
            raise SpecError(f"the text holds {len(windows)} windows; {spec.held_out} are held out")
        parts = [window[None] for window in windows]
        streams = sweep(teacher.as_stored(), parts, threads, progress, "original")
        return cls(source, model, teacher, spec, threads, tunables, parts, streams)

    @property
    def keys(self) -> list[Key]:
        """Of all that is tuned, in order."""
        return [one.key for one in self.tunables]

    @cached_property
    def start(self) -> Values:
        """As stored before."""
        return {one.key: one.value.astype(np.float32) for one in self.tunables}

    @cached_property
    def units(self) -> dict[Key, np.float32]:
        """The root mean square of each; of what biases are added to, as it is in one window."""
        sizes = {key: _size(value) for key, value in self.start.items()}
        if biases := [one for one in self.tunables if one.what == "biases"]:
            sizes |= self._output_sizes(biases)
        return sizes

    def _output_sizes(self, biases: Sequence[Tunable]) -> dict[Key, np.float32]:
        """The root mean square of the outputs that have these biases; 1 where no token goes."""
        at: dict[tuple[Place, int, int], Key] = {
            (use.place, use.op, int(use.name.split(".")[0])): one.key
            for one in biases for use in one.uses
        }  # fmt: skip
        found: dict[Key, np.float32] = {}

        def see(place: Place, steps: Sequence[Sequence[Step]]) -> None:
            for i, step in enumerate(steps[0]):
                for j, y in enumerate(step.made):
                    if (key := at.get((place, i, j))) is not None:
                        found[key] = _size(y)

        self._backward(self.start).look([self.windows[self.batches[0][0]]], see)
        return found

    @property
    def numbers(self) -> int:
        """How many are tuned."""
        return sum(value.size for value in self.start.values())

    @cached_property
    def held_out(self) -> list[int]:
        """Which windows are held out: evenly among all."""
        count, held_out = len(self.windows), self.spec.held_out
        return sorted({(2 * i + 1) * count // (2 * held_out) for i in range(held_out)})

    @cached_property
    def batches(self) -> list[list[int]]:
        """The windows of every step: each pass in random order, in batches of about equal size."""
        rng = np.random.default_rng(self.spec.seed)
        learnt = [i for i in range(len(self.windows)) if i not in self.held_out]
        count = -(-len(learnt) // self.spec.batch)
        return [
            [int(i) for i in part]
            for _ in range(self.spec.passes)
            for part in np.array_split(rng.permutation(learnt), count)
        ]

    def values(self, moves: Values) -> Values:
        """What moves lead to."""
        return {key: x + self.units[key] * moves[key] for key, x in self.start.items()}

    def stored(self, moves: Values) -> Values:
        """The same by tensor, as `store.save` takes them."""
        return by_tensor(self.tunables, self.values(moves))

    def gradient(self, moves: Values, which: Sequence[int]) -> Values:
        """At moves, of the mean divergence over the tokens of some windows."""
        with np.errstate(over="ignore", invalid="ignore"):  # a look at held-out text finds it
            found = self._backward(self.values(moves)).gradients(
                [self.windows[i] for i in which], self._loss(which)
            )
        grads = gathered(self.tunables, found.arrays)
        return {key: g * self.units[key] for key, g in grads.items()}

    def divergence(self, moves: Values, which: Sequence[int], *, rounded: bool = True) -> float:
        """The mean divergence of some windows under values as they are stored, or as they are."""
        values = self.values(moves)
        if rounded:
            values = store.rounded(self.source, values)
        with np.errstate(over="ignore", invalid="ignore"):
            return self._backward(values).loss([self.windows[i] for i in which], self._loss(which))

    def summary(self) -> dict[str, Any]:
        """What the manifest says, whatever comes of it."""
        learnt = len(self.windows) - len(self.held_out)
        length = self.windows[0].size
        return {
            "spec": self.spec.to_dict(),
            "tokens": learnt * length,
            "held_out_tokens": len(self.held_out) * length,
        }

    def _loss(self, which: Sequence[int]) -> LiveTeacher:
        streams = [self.streams[i] for i in which]
        rows = sum(h.shape[0] * h.shape[1] for h in streams)
        return LiveTeacher(self.teacher.head, streams, 1 / rows)

    def _backward(self, values: Values) -> Backward:
        changed = Changed(used(self.tunables, values), self.opened)
        return Backward(self.model, changed, self.threads, keeps=_VALUES)


def _size(values: Array) -> np.float32:
    """The root mean square; 1 where that is 0, or there are none."""
    return np.float32(np.sqrt(np.mean(values**2)) or 1.0) if values.size else np.float32(1)


def _drawn(
    spec: TuneSpec, path: Path, teacher: Model, threads: int, progress: Progress
) -> NDArray[np.integer]:
    """Windows (count, T) of the text."""
    text = CalibrationSpec(spec.files, 1, spec.seqlen)
    learnt = -(-spec.tokens // window_length(text, teacher.context))
    drawn = calibration_windows(
        CalibrationSpec(spec.files, learnt + spec.held_out, spec.seqlen),
        Tokenizer.open(path), teacher, seed=spec.seed, threads=threads, progress=progress,
    )  # fmt: skip
    for warning in drawn.warnings:
        progress.note(warning)
    return drawn.windows
