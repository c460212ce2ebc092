"""Tuning of a compressed model against its original: all that is no code, by KL divergence."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lrc.base.lock import LockedFile
from lrc.base.progress import SILENT, Progress
from lrc.base.threads import resolve_threads
from lrc.errors import SpecError, UnsupportedModelError
from lrc.formats.hub import local_model
from lrc.formats.hub_cache import refuse_cached
from lrc.models.opened import open_model, open_original
from lrc.models.speech import hears
from lrc.parts.packed import MANIFEST, PackedCheckpoint
from lrc.refine import store
from lrc.refine.adam import AdamW, cosine_rate
from lrc.refine.options import TuneSpec
from lrc.refine.rate import LADDER, trial_rate
from lrc.refine.tune_job import TuneJob
from lrc.refine.tune_state import Key, TuneState, TuningRun, slowed

#: Holds the lock of who tunes a directory.
LOCK = ".lrc-tuning"
#: Part of all steps in which the rate rises.
_WARM = 0.1
#: Held-out text that is so much worse than at best ends a rate.
_WORSE = 1.02


@dataclass(frozen=True)
class TuneReport:
    """What came of it: mean KL(original || model) of the held-out tokens, in nats.

    ``before`` and ``after`` are of what is on disk, as are the bits a weight of linear layers;
    ``numbers`` were tuned, in ``steps`` steps at ``rate`` at most. ``resumed``: the step at which
    an earlier run was interrupted; 0: none was.
    """

    before: float
    after: float
    bits_before: float
    bits_after: float
    numbers: int
    steps: int
    rate: float
    resumed: int
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
    stop: Callable[[int], bool] | None = None,
) -> TuneReport:
    """Tune the compressed model in ``folder`` in place; no code of it changes.

    Norms and the other numbers that a spec names follow the gradient of KL(original || model) by
    AdamW, over the tokens of windows of text. Whenever the divergence of held-out windows is the
    least so far, what gives it is stored, all at once: whatever ends the run, the best so far is
    there. The same call then goes on from the last check, to the bytes of a run that nothing
    interrupted; where all was done, another one begins with what is stored.

    Parameters
    ----------
    folder : path
        Of a model that `lrc.compress` has made.
    against : path
        The directory it was made from.
    spec : TuneSpec, optional
    minutes : float, optional
        So many steps are made as fit into that, with the rate falling to 0 in them.
    threads : int, optional
        Windows worked on at the same time; never changes a byte.
    progress : Progress
    stop : function, optional
        Asked after each step, with the number of steps made, whether that is enough. The schedule
        of rates stays that of all steps, so that what is stored until then is the same.

    Raises
    ------
    LrcError
        For bad input; another process tunes the directory.

    Notes
    -----
    Memory: that of `lrc.refine.backward` for ``batch`` windows, the original's last residual
    streams, 4 bytes a token and channel, 20 bytes for each number that is tuned, and what
    `lrc.refine.tune_job` keeps to be faster.
    """
    began, spec, folder = time.perf_counter(), spec or TuneSpec(), local_model(folder)
    refuse_cached(folder)
    if minutes is not None and not minutes > 0:
        raise SpecError(f"minutes={minutes} must be positive")
    with _locked(folder):
        refuse_speech(folder)
        digest = check_original(folder, Path(against))
        run = TuningRun.claim(folder, digest, spec, progress.note)
        try:
            job = TuneJob.open(run, Path(against), spec, resolve_threads(threads), progress)
            store.remove_superseded(folder, store.files_of(folder))
            bits = store.linear_bits(job.source)
            state, resumed = _started(job, run, progress)
            deadline = None if minutes is None else began + 60 * minutes
            state = _steps(job, run, folder, state, deadline, progress, stop)
            run.finish()
        finally:
            run.close()
    if not state.stored:
        progress.note("no step lowered the divergence of held-out text: nothing is stored")
    return TuneReport(
        before=state.before, after=state.best, bits_before=bits,
        bits_after=store.linear_bits(folder), numbers=job.numbers, steps=state.step,
        rate=state.rate, resumed=resumed, seconds=time.perf_counter() - began,
        stored=state.stored > 0,
    )  # fmt: skip


def refuse_speech(folder: Path) -> None:
    """Refuse a model that hears, before anything else is read.

    Raises
    ------
    UnsupportedModelError
        It does.
    """
    if hears(open_model(folder)[0]):
        raise UnsupportedModelError(
            f"{folder} is a speech model, and lrc tune learns from text alone; "
            "give it a model that writes text"
        )


def check_original(folder: Path, against: Path) -> str:
    """The digest of the original, which the compressed model was made from.

    Raises
    ------
    SpecError
        It was not.
    """
    _, dense = open_original(against)
    if PackedCheckpoint.open(folder).digest() != dense.digest():
        raise SpecError(f"{folder} was not made from {against}; give the model it was made from")
    return dense.digest()


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


def _started(job: TuneJob, run: TuningRun, progress: Progress) -> tuple[TuneState, int]:
    """The state to begin with, and at which step an earlier run was interrupted."""
    state = run.load(job.keys)
    if state is not None:
        progress.note(f"goes on after step {state.step} of {state.steps}")
        return state, state.step
    moves = {key: np.zeros_like(value) for key, value in job.start.items()}
    before = job.divergence(moves, job.held_out)
    state = TuneState(len(job.batches), 0.0, before, before, moves, moves)
    state.rate = _rate(job, state, progress)
    run.save(state, job.keys)
    return state, 0


def _rate(job: TuneJob, state: TuneState, progress: Progress) -> float:
    """The highest rate: as asked for, that of an earlier tuning, or what a trial finds.

    Where a model was tuned, the noise of the first gradient hides what is left of its mean, and a
    trial of one step finds next to nothing: the rate that has led there leads on.
    """
    if job.spec.rate != "auto":
        return job.spec.rate
    earlier = job.source.report.get("tuned", ())
    return float(earlier[-1]["rate"]) if earlier else _tried(job, state, progress)


def _tried(job: TuneJob, state: TuneState, progress: Progress) -> float:
    """The rate that a trial of the first step finds, on half of the held-out windows."""
    some = job.held_out[::2]
    gradient = job.gradient(state.moves, job.batches[0])
    with progress.bar("trial", len(LADDER), "rate") as advance:

        def loss(rate: float) -> float:
            moves = AdamW[Key]().moved(state.moves, gradient, rate)
            found = job.divergence(moves, some, rounded=False)  # too small to be stored, perhaps
            advance()
            return found

        return trial_rate(loss, job.divergence(state.moves, some, rounded=False))


def _steps(
    job: TuneJob,
    run: TuningRun,
    folder: Path,
    state: TuneState,
    deadline: float | None,
    progress: Progress,
    stop: Callable[[int], bool] | None,
) -> TuneState:
    """All steps that are left, with checks between them; the best is stored."""
    first, began = state.step, time.perf_counter()
    with progress.bar("tuning", state.steps, "step") as advance:
        advance(first)
        while state.step < state.steps:
            batch = job.batches[state.step]
            gradient = job.gradient(state.moves, batch)
            warm = max(1, int(_WARM * state.steps))
            rate = state.rate * state.slower * cosine_rate(state.step, state.steps, warm)
            state.moves = state.adam.moved(state.moves, gradient, rate)
            state.step += 1
            if deadline is not None and state.step == first + 2:
                _shorten(job, state, first, began, deadline, progress)
            if state.step in checks(state.steps, job.spec.checks):
                state = _checked(job, run, folder, state)
            advance()
            if stop is not None and stop(state.step):
                break
    return state


def checks(steps: int, count: int) -> set[int]:
    """After which steps held-out text is looked at: ``count`` times, evenly, and at the end."""
    return {steps * (i + 1) // count for i in range(count)} - {0}


def _shorten(
    job: TuneJob, state: TuneState, first: int, began: float, deadline: float, progress: Progress
) -> None:
    """Plan so many steps as fit before the deadline; at least those that were made."""
    now = time.perf_counter()
    each = (now - began) / (state.step - first)
    looks = job.spec.checks * len(job.held_out) / (3 * job.spec.batch)  # a look has no way back
    fit = state.step + int(max(0.0, deadline - now) / each - looks)
    if fit < state.steps:
        progress.note(f"{max(fit, state.step)} of {state.steps} steps fit into the time")
        state.steps = max(fit, state.step)


def _checked(job: TuneJob, run: TuningRun, folder: Path, state: TuneState) -> TuneState:
    """Look at held-out text: store what is better than ever, go back from what is worse."""
    now = job.divergence(state.moves, job.held_out)
    if now < state.best:
        state.best, state.stored, state.best_moves = now, state.step, dict(state.moves)
        summary = {
            **job.summary(), "run": run.name, "steps": state.step, "rate": state.rate,
            "kl_before": state.before, "kl_after": now,
            "shortened": state.steps != len(job.batches),
        }  # fmt: skip
        store.save(folder, job.source, job.stored(state.moves), summary, state.step)
    elif not now <= _WORSE * state.best:  # or it is no number any more
        state = slowed(state)
    run.save(state, job.keys)
    return state
