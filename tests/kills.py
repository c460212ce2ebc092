"""Jobs that are killed at random moments, or by power cuts, until they are let end.

What comes of it must be, byte for byte, what comes of a job that nothing disturbed.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dying
import numpy as np
import simulated_disk
import tiny

import lrc
from lrc.base.partial import MARKER, PartialDirectory
from lrc.convert.hf import export_hf
from lrc.parts.manifest import read_manifest
from lrc.refine.store import files_of, remove_superseded
from lrc.refine.tune import LOCK
from lrc.spec import CalibrationSpec, CompressSpec, DecomposeSpec, LowRankSpec

SMALL = {
    "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2, "head_dim": 8,
    "num_key_value_heads": 1,
}  # fmt: skip
SPEC = CompressSpec(
    decompose=DecomposeSpec(low_rank=LowRankSpec(2), iterations=1, inner_iterations=1),
    calibration=CalibrationSpec(nsamples=2, seqlen=16),
)
WAYS = ("kill", "power cut", "kill -9")


@dataclass(frozen=True)
class Job:
    """What is done below a directory, from which state, and what of it is compared."""

    name: str
    begin: Callable[[Path], object]
    work: Callable[[Path], object]

    def undisturbed(self, root: Path) -> dict[str, bytes]:
        root.mkdir()
        self.begin(root)
        self.work(root)
        return contents(root)


def contents(root: Path) -> dict[str, bytes]:
    """Every file below a directory but markers, whose removal need not be on disk."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in (MARKER, LOCK)
    }


def jobs(folder: Path) -> dict[str, Job]:
    """A compression, a tuning and an export of a model of two small blocks."""
    model = tiny.write_model(folder / "model", **SMALL)
    rng = np.random.default_rng(6)
    windows = rng.integers(0, 256, (2, 16))

    def compress(root: Path) -> None:
        if not (root / "out").exists():
            lrc.compress(model, root / "out", SPEC, windows=windows, threads=1)

    def export(root: Path) -> None:
        if not (root / "dense").exists():
            export_hf(folder / "packed", root / "dense")

    lrc.compress(model, folder / "packed", SPEC, windows=windows, threads=1)
    text = folder / "text.txt"
    text.write_text(tiny.TEXT[:3000])
    learning = lrc.TuneSpec(
        files=(str(text),), tokens=128, seqlen=16, held_out=2, batch=2, checks=2, rate=0.01
    )

    def tune(root: Path) -> None:
        if not is_tuned(root / "model"):
            lrc.tune(root / "model", model, learning, threads=1)
        # That superseded files are gone need not be on disk; nothing reads them.
        remove_superseded(root / "model", files_of(root / "model"))
        if (left := root / "model.tuning").exists():  # as who tunes next begins
            PartialDirectory.claim(left, "another tuning", lambda _: None).discard()

    def copy(root: Path) -> None:
        shutil.copytree(folder / "packed", root / "model")

    def nothing(root: Path) -> None:
        del root

    found = [Job("compress", nothing, compress), Job("export", nothing, export)]
    return {job.name: job for job in [*found, Job("tune", copy, tune)]}


def is_tuned(folder: Path) -> bool:
    """Whether a tuning has ended: it is on record, and its directory is gone, or about to go.

    Who tunes again then begins another one, with what the first has made.
    """
    marker = folder.with_name(folder.name + ".tuning") / MARKER
    going = not marker.parent.exists() or (
        marker.exists() and marker.read_bytes().startswith(b"discarded\n")
    )
    return bool(read_manifest(folder).get("tuned")) and (going or not marker.exists())


def changes(job: Job, root: Path) -> int:
    """How many changes of files an undisturbed job makes."""
    root.mkdir()
    job.begin(root)
    noted = root.with_name(root.name + ".count")

    def count() -> None:
        found = dying.at_step(0, lambda: None, lambda: job.work(root), str(root))
        os.write(descriptor, str(found).encode())

    descriptor = os.open(noted, os.O_WRONLY | os.O_CREAT)
    assert dying.fork(count) == 0
    os.close(descriptor)
    return int(noted.read_text())


def disturb(job: Job, root: Path, way: str, steps: int, seconds: float, rng: random.Random) -> int:
    """Run a job once, to a random moment; the exit code."""
    step = rng.randint(1, steps)
    if way == "kill":
        return dying.killed_at(step, lambda: job.work(root), root)
    if way == "power cut":
        return simulated_disk.cut_at(step, lambda: job.work(root), root, rng.randrange(2**32))
    child = dying.start(lambda: job.work(root))
    time.sleep(rng.uniform(0, seconds))
    os.kill(child, signal.SIGKILL)
    return -dying.wait(child)


def chain(
    job: Job, root: Path, ways: tuple[str, ...], steps: int, seconds: float, rng: random.Random
) -> tuple[dict[str, bytes], list[Any]]:
    """Disturb a job in each of these ways, one after another, then let it end."""
    root.mkdir()
    job.begin(root)
    codes = [disturb(job, root, way, steps, seconds, rng) for way in ways]
    job.work(root)
    return contents(root), codes
