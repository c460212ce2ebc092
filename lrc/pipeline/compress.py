"""Compress a model: bottom first, one block in memory, each matrix fitted to what it will see."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrc import __version__
from lrc.allocation.api import allocate_in, check_request, forget
from lrc.base.atomic import atomic_directory, atomic_write_json, check_output
from lrc.base.journal import Journal, fingerprint, load_windows, save_windows
from lrc.base.progress import SILENT, Progress
from lrc.base.resources import peak_rss_bytes
from lrc.base.threads import blas_is_controlled, resolve_threads, single_threaded_blas
from lrc.calibrate.corpus import (
    WINDOW,
    calibration_windows,
    check_files,
    described,
    window_length,
)
from lrc.calibrate.windows import given_windows
from lrc.errors import FormatError, SpecError
from lrc.formats.safetensors.checkpoint import file_digest
from lrc.formats.side_files import copy_side_files
from lrc.measure.storage import storage
from lrc.models.base import Model
from lrc.models.opened import open_original
from lrc.parts.packed import FORMAT, FORMAT_VERSION, MANIFEST, PackedCheckpoint
from lrc.pipeline.blocks import Job, run_blocks
from lrc.run.text import Tokenizer
from lrc.spec import AllocationSpec, CompressSpec


@dataclass(frozen=True)
class CompressReport:
    """What was written and how well it fits; ``matrices`` are the records of ``lrc.json``.

    ``spec`` holds what an allocation chose, and ``allocation`` its summary; None without one.
    ``calibration`` says where the tokens came from: ``source``, ``windows``, ``window_tokens``
    and, for each of the ``files``, how many tokens of it were seen.
    """

    path: Path
    spec: CompressSpec
    allocation: dict[str, Any] | None
    calibration: dict[str, Any]
    matrices: dict[str, dict[str, Any]]
    bits_per_weight_linear: float
    bits_per_weight_file: float
    file_bytes: int
    seconds: float
    seconds_per_block: float
    peak_rss_bytes: int | None
    warnings: tuple[str, ...]


def compress(
    source: str | Path,
    out: str | Path,
    spec: CompressSpec | None = None,
    *,
    allocation: AllocationSpec | None = None,
    threads: int | None = None,
    progress: Progress = SILENT,
    windows: ArrayLike | None = None,
    survey_folder: str | Path | None = None,
) -> CompressReport:
    """Compress the model in directory ``source`` into a new directory ``out``.

    Bottom first with two streams: at each input site the second moment H = E[z z^T] of the
    compressed prefix's inputs z and the cross moment C = E[x z^T] with the original's inputs x
    are taken; the matrices there are fitted and replaced; both streams move on.

    Parameters
    ----------
    source : path
        A dense Hugging Face directory with safetensors weights.
    out : path
        Must not exist; appears complete or not at all. An interrupted run leaves
        ``out.partial``, and the same call continues there.
    spec : CompressSpec, optional
    allocation : AllocationSpec, optional
        A budget: codebook, bits and rank of every matrix that the spec does not name are chosen
        for it first.
    threads : int, optional
        All processors by default; never changes a byte.
    progress : Progress, optional
    windows : integers (N, T), optional
        Calibration tokens to use instead of the spec's files or self-written text.
    survey_folder : path, optional
        With an ``allocation``: keeps there what other budgets of the same model can use again.

    Returns
    -------
    CompressReport

    Raises
    ------
    LrcError
        For bad input; nothing is left behind.

    Notes
    -----
    Peak memory: one block in float32, two streams of activations (8 bytes a token and channel
    each) and about eight n^2 float64 for the widest site. Time: two forward passes, 4 T n^2 a
    site for the moments, and the cost of the recipe for each matrix. Without calibration text
    the weights of the whole model are looked at once a token, in the type they are stored in.
    """
    began = time.perf_counter()
    out = Path(out)
    spec = spec or CompressSpec()
    model, checkpoint = open_original(source)
    _check_names(model, spec)
    if windows is not None:
        windows = given_windows(windows, model)
    if allocation is not None:
        check_request(model, spec, allocation, survey_folder)
    elif survey_folder is not None:
        raise SpecError("a survey is made for a budget; give a target, or no folder for a survey")
    check_output(out)
    tokenizer = Tokenizer.open(checkpoint.path)
    asked = spec.calibration
    if windows is None:
        check_files(asked.files)
        length = window_length(asked, model.context)
        spec = dataclasses.replace(spec, calibration=dataclasses.replace(asked, seqlen=length))
    side_files = checkpoint.other_files()
    count = resolve_threads(threads)
    checkpoint.check_finite(count)
    job_name = fingerprint(
        checkpoint.digest(),
        json.dumps(spec.to_dict()),
        json.dumps(allocation.to_dict() if allocation else None),
        __version__,
        str(FORMAT_VERSION),
        b"" if windows is None else np.ascontiguousarray(windows, np.int64).tobytes(),
        *(file_digest(Path(name)) for name in spec.calibration.files if windows is None),
    )
    with atomic_directory(out, fingerprint=job_name) as folder, single_threaded_blas():
        journal = Journal.resume(folder)
        if journal.files:
            progress.note(f"continuing an interrupted run: {len(journal.files)} files are done")
        _copy(checkpoint.path, side_files, tokenizer, folder)
        job = Job(checkpoint, model, spec.with_table_bits(), count, folder, journal)
        if windows is None:
            windows = _windows(job, tokenizer, progress)
        elif not journal.calibration:
            journal.calibration = described(windows, "given by the caller")
        _note_conditions(job, spec.calibration != asked and windows.shape[1] < WINDOW)
        summary = None
        if allocation is not None:
            chosen = allocate_in(
                folder, model, spec, allocation, windows,
                threads=count, progress=progress, survey_folder=survey_folder,
            )  # fmt: skip
            job, summary = dataclasses.replace(job, spec=chosen.spec), chosen.summary
        run_blocks(job, windows, progress)
        atomic_write_json(folder / MANIFEST, _manifest(job, windows, summary))
        journal.finish(folder)
        forget(folder)
    for warning in journal.warnings:
        progress.note(warning)
    return _report(out, job, summary, time.perf_counter() - began)


def _check_names(model: Model, spec: CompressSpec) -> None:
    """Refuse parameters for matrices that the model does not have.

    Raises
    ------
    SpecError
        Naming them.
    """
    matrices = model.tensors.matrices
    unknown = sorted(set(spec.matrices) - set(matrices))
    if unknown:
        first, keys = next(iter(matrices)), dict.fromkeys(m.key for m in matrices.values())
        raise SpecError(
            f"the model has no matrix {', '.join(unknown)}; names look like {first}, with layers "
            f"0 to {model.tensors.blocks - 1} and {', '.join(keys)}"
        )


def _windows(job: Job, tokenizer: Tokenizer, progress: Progress) -> NDArray[np.integer]:
    """Calibration tokens, those of the interrupted run if there are any."""
    kept = load_windows(job.folder)
    if kept is not None:
        return kept
    text = calibration_windows(
        job.spec.calibration,
        tokenizer,
        job.model,
        seed=job.spec.decompose.seed,
        threads=job.threads,
        progress=progress,
    )
    job.journal.calibration = text.record
    job.journal.warnings += [w for w in text.warnings if w not in job.journal.warnings]
    job.journal.save(job.folder)
    save_windows(job.folder, text.windows)
    return text.windows


def _note_conditions(job: Job, shortened: bool) -> None:
    """Put on record what differs from what was asked for."""
    if job.journal.files:
        return
    job.journal.warnings.extend(job.model.notes)
    if shortened:
        job.journal.warnings.append(
            f"calibration windows are {job.model.context} tokens long, the model's whole context"
        )
    if unused := job.spec.calibration.unused():
        job.journal.warnings.append(f"streams original alone: {', '.join(unused)} not used")
    if not blas_is_controlled():
        job.journal.warnings.append(
            "the threads of the BLAS in use cannot be set from here: bytes may depend on their "
            "number; the extra blas knows more libraries"
        )


def _copy(root: Path, files: tuple[Path, ...], tokenizer: Tokenizer, folder: Path) -> None:
    """Copy what is not weights; the directory must then tokenize, stop and chat as the source.

    Done before any work, like all else that can be refused.

    Raises
    ------
    FormatError
        If it does not.
    """
    copy_side_files(root, files, folder)
    written = Tokenizer.open(folder)
    same = (
        written.eos_ids == tokenizer.eos_ids
        and written.bos_id == tokenizer.bos_id
        and written.chat_templates == tokenizer.chat_templates
    )
    if not same:
        raise FormatError(f"{folder}: eos, bos or chat template differ from the source's")


def _manifest(
    job: Job, windows: NDArray[np.integer], allocation: dict[str, Any] | None
) -> dict[str, Any]:
    source, journal = job.source, job.journal
    if journal.dropped:
        journal.warnings.append(f"{journal.dropped} activations were not finite and left out")
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "library": f"lrc-llm {__version__}",
        "spec": job.spec.to_dict(),
        **({"allocation": allocation} if allocation else {}),
        "source": {
            "digest": source.digest(),
            "parameters": sum(math.prod(source.shape(name)) for name in source.names()),
        },
        "calibration": {
            "tokens": int(windows.size),
            "dropped_rows": journal.dropped,
            **journal.calibration,
        },
        "files": journal.files,
        "matrices": journal.records,
        "warnings": journal.warnings,
    }


def _report(
    out: Path, job: Job, allocation: dict[str, Any] | None, seconds: float
) -> CompressReport:
    written, journal = PackedCheckpoint.open(out), job.journal
    stored = storage(written)
    return CompressReport(
        path=out,
        spec=job.spec,
        allocation=allocation,
        calibration=written.report["calibration"],
        matrices=written.report["matrices"],
        bits_per_weight_linear=stored["bits_per_weight_linear"] or 0.0,
        bits_per_weight_file=stored["bits_per_weight_file"],
        file_bytes=stored["file_bytes"],
        seconds=seconds,
        seconds_per_block=float(np.mean(journal.seconds)) if journal.seconds else 0.0,
        peak_rss_bytes=peak_rss_bytes(),
        warnings=tuple(journal.warnings),
    )
