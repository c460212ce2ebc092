"""Compress a model: bottom first, one block in memory, each matrix fitted to what it will see."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import asdict
from pathlib import Path

from numpy.typing import ArrayLike

from lrc.allocation.api import allocate_in, forget, surveyed_files
from lrc.allocation.ranks import with_ranks
from lrc.base.arithmetic import require_portable
from lrc.base.atomic import atomic_directory, check_output
from lrc.base.fingerprint import code_digest, fingerprint
from lrc.base.partial import sync_tree
from lrc.base.progress import SILENT, Progress
from lrc.base.spool import MemoryUse, Spool, using_memory
from lrc.base.threads import blas_is_controlled, resolve_threads, single_threaded_blas
from lrc.calibrate.streams import Inputs
from lrc.errors import FormatError
from lrc.formats.safetensors.checkpoint import file_digest
from lrc.formats.side_files import copy_side_files
from lrc.measure.self_test import self_test
from lrc.models.opened import open_original
from lrc.parts.manifest import write_manifest
from lrc.pipeline.asked import check_asked
from lrc.pipeline.bases import check_shared, find_bases, forget_bases
from lrc.pipeline.blocks import run_blocks
from lrc.pipeline.forecast.memory import Way, memory_plan
from lrc.pipeline.job import Job
from lrc.pipeline.job_manifest import manifest_of
from lrc.pipeline.journal import Journal, finished_files, is_complete, refuse_own_names
from lrc.pipeline.material import material_of
from lrc.pipeline.metric import GradientStore, forget_gradients, gradient_store
from lrc.pipeline.report import CompressReport
from lrc.pipeline.time_limit import time_limit_of
from lrc.pipeline.width import default_spec
from lrc.pipeline.widths import forget_widths, with_widths
from lrc.quant.cuda import device_note, require_device
from lrc.run.text import Tokenizer
from lrc.solvers.api import derive_seed
from lrc.spec import FISHER, AllocationSpec, CompressSpec


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
    ram: int | None = None,
    seconds: float | None = None,
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
        Must not exist; appears complete or not at all. A run that is interrupted or fails
        leaves what it has finished in ``out.partial``, and the same call continues there.
    spec : CompressSpec, optional
        Every parameter at its default, without an ``allocation`` at the width of
        :func:`lrc.pipeline.width.default_bits`.
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
    ram : int, optional
        Most bytes of memory that the process may take, by the system's count; never changes a byte.
        Activations are spooled to disk and matrices taken one by one where that is needed.
    seconds : float, optional
        That it should take at most: where matrices are late, those that are left are searched less
        hard for. The result depends on the clock then; the spec that is stored says what was
        chosen, and gives the same bytes without it.

    Returns
    -------
    CompressReport

    Raises
    ------
    LrcError
        For bad input; or the model that came of it is broken: then nothing is put at ``out``.

    Notes
    -----
    Peak memory: the matrices of one site in float32, two streams of activations (8 bytes a token
    and channel each) and about eight n^2 float64 for the widest site; see
    :mod:`lrc.pipeline.forecast.memory`. Time: two forward passes, one of the
    few tokens that the head's metric is of, 4 T n^2 a site for the moments, and the cost of the
    recipe for each matrix. Without calibration text the weights of the whole model are looked at
    once a token, in the type they are stored in.
    """
    began = time.perf_counter()
    out = Path(out)
    if spec is not None:
        require_device(spec.decompose.device)
        if spec.portable:
            require_portable()
    model, checkpoint = open_original(source)
    spec = spec or (CompressSpec() if allocation is not None else default_spec(model))
    widths = check_asked(model, spec, allocation, survey_folder)
    check_shared(spec, allocation=allocation, ram=ram, seconds=seconds)
    check_output(out)
    tokenizer = Tokenizer.open(checkpoint.path)
    material = material_of(model, checkpoint.path, tokenizer, spec, windows)
    spec = material.spec
    side_files = checkpoint.other_files()
    refuse_own_names(side_files)
    count = resolve_threads(threads)
    way = None if ram is None else memory_plan(model, spec, allocation, count, ram).way
    count = count if way is None else way.threads
    checkpoint.check_finite(count)
    job_name = fingerprint(
        checkpoint.digest(),
        json.dumps(spec.to_dict()),
        json.dumps(allocation.to_dict() if allocation else None),
        code_digest(),
        *material.identity(),
        *(part for path in side_files for part in (path.name, file_digest(path))),
    )
    with (
        atomic_directory(
            out,
            fingerprint=job_name,
            finished=lambda folder: finished_files(folder) + surveyed_files(folder),
            tell=progress.note,
        ) as folder,
        single_threaded_blas(),
        using_memory(_memory_use(way, folder)),
    ):
        journal = Journal.resume(folder)
        continued = bool(journal.files) or is_complete(folder)
        if is_complete(folder):
            progress.note("an earlier run wrote everything; what only it needed is removed")
        else:
            if journal.files:
                progress.note(f"continuing an unfinished run: {len(journal.files)} files are done")
            journal.checksums |= _copy(checkpoint.path, side_files, tokenizer, folder)
            job = Job(
                checkpoint, model, spec.with_table_bits(), count, folder, journal,
                importance=material.importance,
            )  # fmt: skip
            examples = material.examples(job, progress)
            _note_conditions(job)
            summary = None
            if allocation is not None and widths is None:
                chosen = allocate_in(
                    folder, model, spec, allocation, examples,
                    threads=count, progress=progress, survey_folder=survey_folder,
                )  # fmt: skip
                job, summary = dataclasses.replace(job, spec=chosen.spec), chosen.summary
            elif spec.ranks != "equal":
                chosen_ranks = with_ranks(model, job.spec, examples, count, progress)
                job = dataclasses.replace(job, spec=chosen_ranks)
                _note_dense(job)
            if spec.basis_blocks > 1:
                bases = find_bases(
                    checkpoint, model, job.spec, examples.inputs, folder, count, progress
                )
                job = dataclasses.replace(job, bases=bases)
            if spec.takes_gradients:
                job = dataclasses.replace(job, gradients=_gradients(job, examples.inputs, progress))
            if widths is not None:
                chosen_widths = with_widths(
                    folder, model, job.spec, widths, examples.inputs, job.gradients,
                    threads=count, progress=progress,
                )  # fmt: skip
                job = dataclasses.replace(job, spec=chosen_widths)
            if seconds is not None:
                job = dataclasses.replace(
                    job, limit=time_limit_of(model.tensors, journal.records, seconds, began)
                )
            run_blocks(job.as_lowered(), examples.inputs, progress)
            job = job.as_lowered()
            sync_tree(folder)  # the manifest says that all else is there
            manifest = manifest_of(job, examples.tokens, summary)
            tested = self_test(folder, manifest, model, examples.inputs, count)
            journal.warn(*tested.warnings)
            tests = {"self_test": asdict(tested), "warnings": journal.warnings}
            write_manifest(folder, manifest | tests)
        journal.finish(folder)
        forget(folder)
        forget_bases(folder)
        forget_gradients(folder)
        forget_widths(folder)
    report = CompressReport.of(out, journal, time.perf_counter() - began, continued=continued)
    for warning in report.warnings:
        progress.note(warning)
    return report


def _memory_use(way: Way | None, folder: Path) -> MemoryUse:
    """How memory is used; what is spooled lies beside what is written."""
    if way is None:
        return MemoryUse()
    return MemoryUse(Spool(folder) if way.spooled else None, way.side_by_side)


def _gradients(job: Job, inputs: Inputs, progress: Progress) -> GradientStore:
    """What the end of the original says of its matrices."""
    seed, metric = derive_seed(job.spec.decompose.seed, "gradients"), job.spec.metric
    return gradient_store(
        job.folder, job.model, inputs,
        metric if metric.from_gradients else metric.of_weights_alone,
        weights=job.spec.decompose.statistic in FISHER,
        seed=seed, threads=job.threads, progress=progress,
    )  # fmt: skip


def _note_conditions(job: Job) -> None:
    """Put on record what differs from what was asked for."""
    if job.journal.files:
        return
    job.journal.warn(*job.model.notes)
    if note := device_note(job.spec.decompose.device):
        job.journal.warn(note)
    if unused := job.spec.calibration.unused():
        job.journal.warn(f"streams original alone: {', '.join(unused)} not used")
    if not blas_is_controlled():
        job.journal.warn(
            "the threads of the BLAS in use cannot be set from here: bytes may depend on their "
            "number; the extra blas knows more libraries"
        )


def _note_dense(job: Job) -> None:
    """Say how many matrices are left as they are."""
    names = list(job.model.tensors.matrices)
    dense = [name for name in names if job.spec.for_matrix(name).stays_dense]
    if dense:
        job.journal.warn(
            f"{len(dense)} of {len(names)} matrices stay dense, in 16 bits, {dense[0]} the first"
        )


def _copy(
    root: Path, files: tuple[Path, ...], tokenizer: Tokenizer, folder: Path
) -> dict[str, str]:
    """Copy what is not weights; the directory must then tokenize, stop and chat as the source.

    What comes back are checksums. Done before any work, like all else that can be refused.

    Raises
    ------
    FormatError
        If it does not.
    """
    checksums = copy_side_files(root, files, folder)
    written = Tokenizer.open(folder)
    same = (
        written.eos_ids == tokenizer.eos_ids
        and written.bos_id == tokenizer.bos_id
        and written.chat_templates == tokenizer.chat_templates
    )
    if not same:
        raise FormatError(f"{folder}: eos, bos or chat template differ from the source's")
    return checksums
