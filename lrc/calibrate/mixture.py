"""Calibration windows: of the user's files, of text that the model writes, of what Python ships."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from lrc.base.progress import Progress
from lrc.calibrate.corpus import CalibrationText, described, file_windows, window_length
from lrc.calibrate.self_text import first_token, sample_batch
from lrc.calibrate.shipped import shipped_files
from lrc.models.base import Model
from lrc.run.text import Tokenizer
from lrc.spec import CalibrationSpec


def calibration_windows(
    spec: CalibrationSpec,
    tokenizer: Tokenizer,
    model: Model,
    *,
    seed: int,
    threads: int,
    progress: Progress,
) -> CalibrationText:
    """Token windows, ``nsamples`` of ``seqlen``, of every source in the parts that the spec says.

    Windows of several sources are put into an order drawn from the seed, so that what looks at
    the first or the last of them sees all sources.

    Raises
    ------
    CalibrationError
        If files hold less than one window, or something that is no text.
    """
    seqlen, counts = window_length(spec, model.context), spec.window_counts()
    made = []
    if counts.files:
        made.append(file_windows(spec.files, tokenizer, counts.files, seqlen, seed))
    if counts.written:
        made.append(_written(model, tokenizer, counts.written, seqlen, seed, threads, progress))
    if counts.shipped:
        made.append(_shipped(tokenizer, counts.shipped, seqlen, seed))
    return made[0] if len(made) == 1 else _mixed(made, seed)


def _shipped(tokenizer: Tokenizer, count: int, seqlen: int, seed: int) -> CalibrationText:
    windows = file_windows(shipped_files(), tokenizer, count, seqlen, seed).windows
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return CalibrationText(windows, described(windows, f"shipped with Python {version}"))


def _written(
    model: Model,
    tokenizer: Tokenizer,
    count: int,
    seqlen: int,
    seed: int,
    threads: int,
    progress: Progress,
) -> CalibrationText:
    first = first_token(model, tokenizer)
    ids = sample_batch(
        model, count, seqlen, seed=seed, bos_id=first.id, threads=threads, progress=progress
    )
    return CalibrationText(ids, described(ids, "written by the model"), first.notes)


def _mixed(parts: Sequence[CalibrationText], seed: int) -> CalibrationText:
    """The windows of several sources, and what each gave."""
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(2,)))
    windows = np.concatenate([part.windows for part in parts])
    windows = windows[rng.permutation(len(windows))]
    sources = {str(part.record["source"]): int(part.record["windows"]) for part in parts}
    record: dict[str, Any] = described(windows, ", ".join(f"{n} {s}" for s, n in sources.items()))
    record["parts"] = sources
    for part in parts:
        if "files" in part.record:
            record["files"] = part.record["files"]
    warnings = tuple(warning for part in parts for warning in part.warnings)
    return CalibrationText(windows, record, warnings)
