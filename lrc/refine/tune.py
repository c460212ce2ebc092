"""Tuning of a compressed model against its original: all that is no code, by KL divergence."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.lock import LockedFile
from lrc.base.progress import SILENT, Progress
from lrc.base.threads import resolve_threads
from lrc.calibrate.mixture import calibration_windows
from lrc.errors import SpecError
from lrc.models.base import Model
from lrc.models.opened import open_model, open_original
from lrc.models.speech import hears, needs_audio
from lrc.models.sweep import sweep
from lrc.parts.packed import MANIFEST, PackedCheckpoint
from lrc.refine import store
from lrc.refine.adam import AdamW, cosine_rate
from lrc.refine.backward import Backward
from lrc.refine.changed import Changed
from lrc.refine.divergence import LiveTeacher
from lrc.refine.options import TuneSpec
from lrc.refine.tunables import Tunable, find_tunables, gathered, used
from lrc.refine.vjp import Array
from lrc.run.text import Tokenizer
from lrc.spec import CalibrationSpec

#: Holds the lock of who tunes a directory.
LOCK = ".lrc-tuning"
#: Part of all steps in which the rate rises.
_WARM = 0.1
Values = dict[tuple[str, str], Array]


@dataclass(frozen=True)
class TuneReport:
    """What came of it: mean KL(original || model) of the held-out tokens, in nats.

    ``before`` and ``after`` are of what is on disk; ``numbers`` were tuned, in ``steps`` steps.
    """

    before: float
    after: float
    numbers: int
    steps: int
    seconds: float
    stored: bool


def tune(
    folder: str | Path,
    against: str | Path,
    spec: TuneSpec | None = None,
    *,
    minutes: float | None = None,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> TuneReport:
    """Tune the compressed model in ``folder`` in place; no code of it changes.

    Norms and the other numbers that a spec names follow the gradient of KL(original || model) by
    AdamW, over the tokens of windows of text. Whenever the divergence of held-out windows is the
    least so far, what gives it is stored, all at once: whatever ends the run, the best so far is
    there. Another run goes on from it, with fresh moments.

    Parameters
    ----------
    folder : path
        Of a model that `lrc.compress` has made.
    against : path
        The directory it was made from.
    spec : TuneSpec, optional
    minutes : float, optional
        No step begins later than that.
    threads : int, optional
        Windows worked on at the same time; never changes a byte.
    progress : Progress

    Raises
    ------
    LrcError
        For bad input; another process tunes the directory.

    Notes
    -----
    Memory: that of `lrc.refine.backward` for ``batch`` windows, the original's last residual
    streams, 4 bytes a token and channel, and 12 bytes for each number that is tuned.
    """
    began, spec, folder = time.perf_counter(), spec or TuneSpec(), Path(folder)
    with _locked(folder):
        job = _Job.open(folder, Path(against), spec, resolve_threads(threads), progress)
        store.remove_superseded(folder, job.source.report["files"])
        return _run(job, began, None if minutes is None else began + 60 * minutes, progress)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The lock of a directory that a manifest lies in."""
    if not (folder / MANIFEST).is_file():
        raise SpecError(f"{folder} is not compressed; give a directory that lrc compress made")
    lock = LockedFile.take(folder / LOCK)
    try:
        yield
    finally:
        lock.remove()


@dataclass(frozen=True)
class _Job:
    """A model, what is tuned of it, and the tokens with what the original makes of them."""

    folder: Path
    source: PackedCheckpoint
    model: Model
    teacher: Model
    spec: TuneSpec
    threads: int
    tunables: list[Tunable]
    windows: Sequence[NDArray[np.integer]]
    streams: Sequence[Array]

    @classmethod
    def open(
        cls, folder: Path, against: Path, spec: TuneSpec, threads: int, progress: Progress
    ) -> _Job:
        """Open both models, draw windows, and run the original once."""
        model, source = open_model(folder)
        assert isinstance(source, PackedCheckpoint)
        teacher, dense = open_original(against)
        if hears(model):
            raise needs_audio()
        if source.digest() != dense.digest():
            raise SpecError(
                f"{folder} was not made from {against}; give the model it was made from"
            )
        tunables, missed = find_tunables(source, spec.what)
        if missed:
            progress.note(f"{missed} arrays are made of several tensors: they are not tuned")
        text = calibration_windows(
            CalibrationSpec(spec.files, spec.windows + spec.held_out, spec.seqlen),
            Tokenizer.open(dense.path), teacher,
            seed=spec.seed, threads=threads, progress=progress,
        )  # fmt: skip
        for warning in text.warnings:
            progress.note(warning)
        windows = [window[None] for window in text.windows]
        if len(windows) <= spec.held_out:
            raise SpecError(f"the text holds {len(windows)} windows; {spec.held_out} are held out")
        streams = sweep(teacher.as_stored(), windows, threads, progress, "original")
        return cls(folder, source, model, teacher, spec, threads, tunables, windows, streams)

    def divided(self) -> tuple[list[int], list[int]]:
        """Which windows are learnt from, and which are held out: evenly among all."""
        count, held_out = len(self.windows), self.spec.held_out
        chosen = {(2 * i + 1) * count // (2 * held_out) for i in range(held_out)}
        return [i for i in range(count) if i not in chosen], sorted(chosen)

    def loss(self, which: Sequence[int]) -> LiveTeacher:
        """The mean divergence over all tokens of some windows."""
        streams = [self.streams[i] for i in which]
        rows = sum(h.shape[0] * h.shape[1] for h in streams)
        return LiveTeacher(self.teacher.head, streams, 1 / rows)

    def backward(self, values: Values) -> Backward:
        """The model with these values."""
        return Backward(self.model, Changed(used(self.tunables, values)), self.threads)

    def divergence(self, values: Values, which: Sequence[int]) -> float:
        """The mean divergence of some windows under values as they are stored."""
        of = self.backward(store.rounded(self.source, values))
        return of.loss([self.windows[i] for i in which], self.loss(which))


def _run(job: _Job, began: float, deadline: float | None, progress: Progress) -> TuneReport:
    """Steps, with checks between them; the best is stored."""
    spec, (learnt, held_out) = job.spec, job.divided()
    start: Values = {one.key: one.value.astype(np.float32) for one in job.tunables}
    units = {key: np.float32(np.sqrt(np.mean(value**2)) or 1.0) for key, value in start.items()}
    moves: Values = {key: np.zeros_like(value) for key, value in start.items()}
    before = best = job.divergence(start, held_out)
    rng, adam = np.random.default_rng(spec.seed), AdamW[tuple[str, str]]()
    batches = [b for _ in range(spec.passes) for b in _batches(learnt, spec.batch, rng)]
    checks = {len(batches) * (i + 1) // spec.checks for i in range(spec.checks)} - {0}
    stored, done = False, 0
    with progress.bar("tuning", len(batches), "step") as advance:
        for step, batch in enumerate(batches):
            if deadline is not None and time.perf_counter() > deadline:
                progress.note(f"time is up after {step} of {len(batches)} steps")
                break
            values = _moved(start, moves, units)
            found = job.backward(values).gradients([job.windows[i] for i in batch], job.loss(batch))
            grads = gathered(job.tunables, found.arrays)
            scaled = {key: g * units[key] for key, g in grads.items()}
            rate = spec.rate * cosine_rate(step, len(batches), max(1, int(_WARM * len(batches))))
            moves = adam.moved(moves, scaled, rate)
            done = step + 1
            if done in checks:
                values = _moved(start, moves, units)
                now = job.divergence(values, held_out)
                if now < best:
                    best, stored = now, True
                    store.save(job.folder, job.source, values, _summary(job, before, now, done))
            advance()
    numbers = sum(value.size for value in start.values())
    if not stored:
        progress.note("no step lowered the divergence of held-out text: nothing is stored")
    return TuneReport(before, best, numbers, done, time.perf_counter() - began, stored)


def _moved(start: Values, moves: Values, units: dict[tuple[str, str], np.float32]) -> Values:
    return {key: value + units[key] * moves[key] for key, value in start.items()}


def _batches(which: list[int], size: int, rng: np.random.Generator) -> list[list[int]]:
    """One pass in a random order, in batches of about equal size."""
    order = rng.permutation(which)
    count = -(-len(order) // size)
    return [[int(i) for i in part] for part in np.array_split(order, count)]


def _summary(job: _Job, before: float, after: float, steps: int) -> dict[str, Any]:
    """What the manifest says."""
    learnt, held_out = job.divided()
    return {
        "spec": job.spec.to_dict(),
        "steps": steps,
        "tokens": sum(job.windows[i].size for i in learnt),
        "held_out_tokens": sum(job.windows[i].size for i in held_out),
        "kl_before": before,
        "kl_after": after,
    }
