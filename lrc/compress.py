"""Compress a model: bottom first, one block in memory, each matrix fitted to what it will see."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc import __version__
from lrc.calibrate.corpus import calibration_windows
from lrc.calibrate.streams import Stream, site_moment, window_chunks
from lrc.decompose.api import decompose_at_site, metric_for
from lrc.decompose.base import Decomposition
from lrc.errors import FormatError, NumericalError
from lrc.formats.atomic import atomic_directory, atomic_write_json, check_output
from lrc.formats.checkpoint import Checkpoint
from lrc.formats.matrix import PackedMatrix
from lrc.formats.packed import (
    FORMAT,
    FORMAT_VERSION,
    MANIFEST,
    PackedCheckpoint,
    matrix_record,
    matrix_tensors,
    open_model_files,
)
from lrc.formats.safetensors_file import write_safetensors
from lrc.models import load_model
from lrc.models.llama import LlamaBlock, LlamaModel
from lrc.nn.embedding import make_embedding
from lrc.nn.linear import make_linear
from lrc.progress import SILENT, Progress
from lrc.quant.table import quantize_table
from lrc.spec import CompressSpec
from lrc.threads import ordered_map, resolve_threads
from lrc.tokens import Tokenizer

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
SHELL = "shell.safetensors"


@dataclass(frozen=True)
class CompressReport:
    """What was written and how well it fits; ``matrices`` are the records of ``lrc.json``."""

    path: Path
    matrices: dict[str, dict[str, Any]]
    bits_per_weight_linear: float
    bits_per_weight_file: float
    file_bytes: int
    seconds: float
    seconds_per_block: float
    peak_rss_bytes: int
    warnings: tuple[str, ...]


@dataclass
class _Journal:
    """Records gathered while the model is written."""

    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    dropped: int = 0
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class _Job:
    """What every step of one compression reads."""

    source: Checkpoint
    model: LlamaModel
    spec: CompressSpec
    threads: int
    folder: Path
    journal: _Journal


def compress(
    source: str | Path,
    out: str | Path,
    spec: CompressSpec | None = None,
    *,
    threads: int | None = None,
    progress: Progress = SILENT,
    windows: NDArray[np.integer] | None = None,
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
        Must not exist; appears complete or not at all.
    spec : CompressSpec, optional
    threads : int, optional
        All processors by default; never changes a byte.
    progress : Progress, optional
    windows : integers (N, T), optional
        Calibration tokens to use instead of the spec's files or self-written text.

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
    site for the moments, and the cost of the recipe for each matrix.
    """
    began = time.perf_counter()
    out = Path(out)
    spec = spec or CompressSpec()
    checkpoint = open_model_files(source)
    if not isinstance(checkpoint, Checkpoint):
        raise FormatError(f"{source} is compressed already; give the original model")
    model = load_model(checkpoint)
    check_output(out)
    count = resolve_threads(threads)
    tokenizer = Tokenizer.open(checkpoint.path)
    if windows is None:
        windows = calibration_windows(
            spec.calibration,
            tokenizer,
            model,
            seed=spec.decompose.seed,
            threads=count,
            progress=progress,
        )
    with atomic_directory(out) as folder:
        job = _Job(checkpoint, load_model(checkpoint), spec, count, folder, _Journal())
        del model  # what it cached while writing text is not needed again
        _run(job, windows, progress)
        _copy_other_files(checkpoint, folder)
        atomic_write_json(folder / MANIFEST, _manifest(job, windows))
        Tokenizer.open(folder)
    return _report(out, job.journal, time.perf_counter() - began)


def _run(job: _Job, windows: NDArray[np.integer], progress: Progress) -> None:
    layers = job.model.config.layers
    wanted = spec_samples(job.spec, windows)
    if wanted:
        job.journal.warnings.append(wanted)
    with progress.bar("compress", layers * 7 + 1, "matrix") as advance:
        original, student = _shell(job, windows)
        advance()
        for index in range(layers):
            start = time.perf_counter()
            original, student = _block(job, index, original, student, advance)
            job.journal.seconds.append(time.perf_counter() - start)
    for warning in job.journal.warnings:
        progress.note(warning)


def spec_samples(spec: CompressSpec, windows: NDArray[np.integer]) -> str:
    """A warning when the text gave fewer windows than asked for, else an empty string."""
    asked = spec.calibration.nsamples
    if len(windows) >= asked or not spec.calibration.files:
        return ""
    return f"calibration text gave {len(windows)} windows of {windows.shape[1]}, not {asked}"


def _shell(job: _Job, windows: NDArray[np.integer]) -> tuple[Stream | None, Stream]:
    """Write embedding, norm and head; start both streams on their own embeddings."""
    source, spec = job.source, job.spec
    packed, tensors = _table(job, EMBEDDING, spec.embed_bits)
    if not job.model.config.tied:
        tensors |= _table(job, HEAD, spec.head_bits)[1]
    elif spec.head_bits != spec.embed_bits:
        job.journal.warnings.append(
            f"the head is tied to the embedding: stored once at {spec.embed_bits} bits, "
            f"head bits {spec.head_bits} not used"
        )
    tensors["model.norm.weight"] = source.dense("model.norm.weight")
    _write(job, SHELL, tensors)
    parts = window_chunks(windows)
    embedded = make_embedding(packed)
    student = Stream.start(tuple(ordered_map(embedded.rows, parts, job.threads)))
    if _one_stream(spec):
        # The original's inputs alone: the "student" stream simply never gets compressed layers.
        return None, Stream.start(tuple(ordered_map(job.model.embed, parts, job.threads)))
    if spec.calibration.mix == 0.0:
        return None, student
    return Stream.start(tuple(ordered_map(job.model.embed, parts, job.threads))), student


def _table(
    job: _Job, name: str, bits: int
) -> tuple[PackedMatrix | NDArray[np.float32], dict[str, NDArray[Any]]]:
    """Embedding or head as it will be read back, and the tensors that store it."""
    table = job.source.linear(name, check_finite=True)
    if bits == 16:
        stored = table.astype(np.float16)
        if not np.isfinite(stored).all():
            raise NumericalError(f"{name} does not fit float16; use 8 bits")
        return stored.astype(np.float32), {name: stored}
    packed, record = quantize_table(table, bits)
    job.journal.records[name] = {**matrix_record(packed), **record, "file": SHELL}
    return packed, matrix_tensors(name, packed)


def _one_stream(spec: CompressSpec) -> bool:
    return spec.calibration.streams == "original"


def _block(
    job: _Job, index: int, original: Stream | None, student: Stream, advance: Any
) -> tuple[Stream | None, Stream]:
    """Compress one block site by site; returns both streams behind it."""
    dense = job.model.load_block(index)
    packed = dense
    prefix = f"model.layers.{index}."
    tensors = _uncompressed(job.source, prefix)
    file = f"block-{index:05d}.safetensors"
    student = student.enter(packed, job.threads)
    original = original.enter(dense, job.threads) if original else None
    for site_index, site in enumerate(dense.sites):
        moment = site_moment(student, original, job.threads)
        job.journal.dropped += moment.dropped
        cross = moment.cross() if original else None
        metric = metric_for(
            moment.matrix(), cross, job.spec.decompose, site=f"{prefix}{site.name}"
        )
        del moment, cross
        for key in site.linears:
            name = f"{prefix}{key}.weight"
            weight = job.source.linear(name, check_finite=True)
            found = decompose_at_site(
                weight,
                metric,
                job.spec.decompose,
                name=name,
                mix=job.spec.calibration.mix if original else 0.0,
                threads=job.threads,
            )
            tensors |= matrix_tensors(name, found.matrix)
            job.journal.records[name] = _record(found, file)
            if not _one_stream(job.spec):
                packed = packed.with_linears({key: _decoded(found.matrix, dense, key)})
            advance()
        del metric
        student = student.step(packed, site_index, job.threads)
        original = original.step(dense, site_index, job.threads) if original else None
    _write(job, file, tensors)
    return original, student


def _decoded(matrix: PackedMatrix, block: LlamaBlock, key: str) -> Any:
    """The layer as the student runs it: many tokens, so decoded once."""
    return make_linear(matrix.to_dense(), getattr(block.linears[key], "bias", None))


def _record(found: Decomposition, file: str) -> dict[str, Any]:
    return {
        **matrix_record(found.matrix),
        "file": file,
        "relative_error": found.relative_error,
        "weight_error": found.weight_error,
        "damping": found.damping,
        "notes": list(found.notes),
        "trace": [[s, e] for s, e in zip(found.trace.steps, found.trace.errors, strict=True)],
    }


def _uncompressed(source: Checkpoint, prefix: str) -> dict[str, NDArray[Any]]:
    """Norms and biases of a block: everything of one dimension."""
    return {
        name: source.dense(name)
        for name in source.names()
        if name.startswith(prefix) and len(source.shape(name)) == 1
    }


def _write(job: _Job, file: str, tensors: dict[str, NDArray[Any]]) -> None:
    write_safetensors(job.folder / file, tensors, {"format": FORMAT})
    job.journal.files.append(file)


def _copy_other_files(source: Checkpoint, folder: Path) -> None:
    for path in source.other_files():
        (folder / path.name).write_bytes(path.read_bytes())


def _manifest(job: _Job, windows: NDArray[np.integer]) -> dict[str, Any]:
    source, journal = job.source, job.journal
    if journal.dropped:
        journal.warnings.append(f"{journal.dropped} activations were not finite and left out")
    parameters = sum(int(np.prod(source.shape(name))) for name in source.names())
    return {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "library": f"lrc-llm {__version__}",
        "spec": job.spec.to_dict(),
        "source": {"digest": source.digest(), "parameters": parameters},
        "calibration": {"tokens": int(windows.size), "dropped_rows": journal.dropped},
        "files": journal.files,
        "matrices": journal.records,
        "warnings": journal.warnings,
    }


def _report(out: Path, journal: _Journal, seconds: float) -> CompressReport:
    written = PackedCheckpoint.open(out)
    return CompressReport(
        path=out,
        matrices=journal.records,
        bits_per_weight_linear=written.report["bits_per_weight_linear"],
        bits_per_weight_file=written.report["bits_per_weight_file"],
        file_bytes=written.report["file_bytes"],
        seconds=seconds,
        seconds_per_block=float(np.mean(journal.seconds)),
        peak_rss_bytes=peak_rss_bytes(),
        warnings=tuple(journal.warnings),
    )
