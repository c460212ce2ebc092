"""The loop of a compression: shell first, then block by block, site by site, two streams."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.journal import Journal
from lrc.base.progress import Progress
from lrc.base.threads import ordered_map
from lrc.calibrate.streams import Stream, site_moment, window_chunks
from lrc.errors import FormatError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.safetensors.file import SafetensorsFile, check_written, write_safetensors
from lrc.models.llama import LlamaModel
from lrc.models.llama_block import LlamaBlock
from lrc.nn.embedding import make_embedding
from lrc.nn.linear import Linear, make_linear
from lrc.parts.matrix import PackedMatrix
from lrc.parts.packed import FORMAT, matrix_record, matrix_tensors, read_matrix
from lrc.quant.tables import EMBEDDING, HEAD, SHELL, Tensors, store_table
from lrc.solvers.api import (
    corrected_columns,
    decompose_at_site,
    fitted_columns,
    least_block,
    metric_for,
)
from lrc.solvers.base import Decomposition
from lrc.solvers.site import SiteMetric
from lrc.spec import CompressSpec

#: Matrices up to this size are solved side by side; larger ones in turn, to save memory.
_SIDE_BY_SIDE = 1 << 22


@dataclass(frozen=True)
class Job:
    """What every step of one compression reads, and the journal it writes."""

    source: Checkpoint
    model: LlamaModel
    spec: CompressSpec
    threads: int
    folder: Path
    journal: Journal

    @property
    def original_only(self) -> bool:
        """Whether moments come from the original model alone."""
        return self.spec.calibration.streams == "original"

    @property
    def two_streams(self) -> bool:
        """Whether the original's inputs enter the target beside the compressed prefix's."""
        calibration = self.spec.calibration
        return not self.original_only and (calibration.mix > 0.0 or calibration.repair > 0.0)


@dataclass(frozen=True)
class Streams:
    """The student runs the compressed prefix (the original one where only that is wanted)."""

    student: Stream
    original: Stream | None


def run_blocks(job: Job, windows: NDArray[np.integer], progress: Progress) -> None:
    """Compress and write shell and blocks; blocks already in the journal only run forward."""
    per_block = len(job.model.load_block(0).linears)
    with progress.bar("compress", job.model.config.layers * per_block + 1, "matrix") as advance:
        streams = _shell(job, windows)
        advance()
        for index in range(job.model.config.layers):
            start = time.perf_counter()
            file = f"block-{index:05d}.safetensors"
            if file in job.journal.files:
                streams = _replay(job, index, file, streams)
                advance(per_block)
                continue
            streams = _block(job, index, file, streams, advance)
            job.journal.seconds.append(time.perf_counter() - start)
            job.journal.save(job.folder)


def _shell(job: Job, windows: NDArray[np.integer]) -> Streams:
    """Write embedding, norm and head; start the streams on their embeddings."""
    spec = job.spec
    embed_bits, head_bits = spec.table_bits()
    packed, tensors, records = store_table(job.source, EMBEDDING, embed_bits)
    if not job.model.config.tied:
        _, head, of_head = store_table(job.source, HEAD, head_bits)
        tensors, records = tensors | head, records | of_head
    elif head_bits != embed_bits and SHELL not in job.journal.files:
        job.journal.warnings.append(
            f"the head is tied to the embedding: stored once at {embed_bits} bits, "
            f"head bits {head_bits} not used"
        )
    job.journal.records |= records
    if SHELL not in job.journal.files:
        tensors["model.norm.weight"] = job.source.dense("model.norm.weight")
        _write(job, SHELL, tensors)
        job.journal.save(job.folder)
    parts = window_chunks(windows)

    def start(rows: Callable[[NDArray[np.integer]], NDArray[np.float32]]) -> Stream:
        return Stream.start(ordered_map(rows, parts, job.threads))

    original = start(job.model.embed) if job.two_streams or job.original_only else None
    if job.original_only:
        assert original is not None
        return Streams(original, None)
    return Streams(start(make_embedding(packed).rows), original)


def _block(
    job: Job, index: int, file: str, streams: Streams, advance: Callable[..., object]
) -> Streams:
    """Compress one block site by site; the streams behind it."""
    dense = student = job.model.load_block(index)
    prefix = f"model.layers.{index}."
    tensors = _uncompressed(job.source, prefix)
    streams = _enter(streams, dense, job.threads)
    for site_index, site in enumerate(dense.sites):
        repairs = site.writes and job.spec.calibration.repair > 0.0
        moment = site_moment(streams.student, streams.original, job.threads, behind=repairs)
        job.journal.dropped += moment.dropped
        cross = moment.cross() if streams.original else None
        H, behind = moment.matrix(), moment.behind()
        shrinkage = job.spec.calibration.shrinkage_for(moment.rows)
        del moment
        metric = metric_for(
            H,
            cross,
            job.spec.decompose,
            site=f"{prefix}{site.name}",
            block_size=_least_block(job, prefix, site.linears),
            shrinkage=shrinkage,
        )
        del H, cross
        at_once = _at_once(job, prefix, site.linears)
        fitted = _fitted(job, prefix, site.linears, metric, at_once)
        metric = metric.without_target()
        if behind is not None:
            fitted = _corrected(job, prefix, fitted, metric, behind)
        del behind
        solve = _solver(job, prefix, metric, fitted, at_once)
        # Matrices of a site are independent: side by side where there are several, and one
        # alone over its rows. Either way the result is that of one thread.
        solved = ordered_map(solve, site.linears, at_once)
        for key, found in zip(site.linears, solved, strict=True):
            name = f"{prefix}{key}.weight"
            tensors |= matrix_tensors(name, found.matrix)
            job.journal.records[name] = _record(found, file) | {"shrinkage": shrinkage}
            if f"{prefix}{key}" in job.spec.matrices:
                job.journal.records[name]["reason"] = job.spec.matrices[f"{prefix}{key}"].reason
            if not job.original_only:
                student = student.with_linears({key: _decoded(found.matrix, dense, key)})
            advance()
        del metric, fitted, solve
        streams = _step(streams, student, dense, site_index, job.threads)
    _write(job, file, tensors)
    return streams


def _least_block(job: Job, prefix: str, keys: tuple[str, ...]) -> int:
    rows = [job.source.shape(f"{prefix}{key}.weight")[0] for key in keys]
    return least_block([job.spec.for_matrix(f"{prefix}{key}").quant for key in keys], rows)


def _at_once(job: Job, prefix: str, keys: tuple[str, ...]) -> int:
    """How many matrices of a site to solve side by side: one where each is large."""
    sizes = [math.prod(job.source.shape(f"{prefix}{key}.weight")) for key in keys]
    return min(job.threads, len(keys)) if max(sizes) <= _SIDE_BY_SIDE else 1


def _fitted(
    job: Job, prefix: str, keys: tuple[str, ...], metric: SiteMetric, at_once: int
) -> dict[str, NDArray[np.float32] | None]:
    """What each linear of a site is fitted to; then the metric's target can be let go."""
    threads = 1 if at_once > 1 else job.threads

    def one(key: str) -> NDArray[np.float32] | None:
        weight = job.source.linear(f"{prefix}{key}.weight", check_finite=True)
        return fitted_columns(weight, metric, job.spec.calibration.mix, threads)

    return dict(zip(keys, ordered_map(one, keys, at_once), strict=True))


def _corrected(
    job: Job,
    prefix: str,
    fitted: dict[str, NDArray[np.float32] | None],
    metric: SiteMetric,
    behind: NDArray[np.float64],
) -> dict[str, NDArray[np.float32] | None]:
    """The same for a site that writes to the residual stream and is to repair it too."""
    share = job.spec.calibration.repair
    return {
        key: corrected_columns(
            job.source.linear(f"{prefix}{key}.weight"), target, metric, behind, share
        )
        for key, target in fitted.items()
    }


def _solver(
    job: Job,
    prefix: str,
    metric: SiteMetric,
    fitted: dict[str, NDArray[np.float32] | None],
    at_once: int,
) -> Callable[[str], Decomposition]:
    """The decomposition of one linear of a site, by its key."""
    threads = 1 if at_once > 1 else job.threads

    def solve(key: str) -> Decomposition:
        name = f"{prefix}{key}.weight"
        weight = job.source.linear(name, check_finite=True)
        spec = job.spec.for_matrix(f"{prefix}{key}")
        return decompose_at_site(
            weight, metric, spec, name=name, fitted=fitted[key], threads=threads
        )

    return solve


def _replay(job: Job, index: int, file: str, streams: Streams) -> Streams:
    """Run the streams through a block that an interrupted run had finished."""
    dense = student = job.model.load_block(index)
    stored = SafetensorsFile(job.folder / file)
    if not job.original_only:
        student = student.with_linears(
            {key: _decoded(_read(job, stored, index, key), dense, key) for key in dense.linears}
        )
    streams = _enter(streams, dense, job.threads)
    for site_index in range(len(dense.sites)):
        streams = _step(streams, student, dense, site_index, job.threads)
    return streams


def _read(job: Job, stored: SafetensorsFile, index: int, key: str) -> PackedMatrix:
    name = f"model.layers.{index}.{key}.weight"
    if name not in job.journal.records:
        raise FormatError(f"{job.folder} is damaged: no record of {name}; remove it and run again")
    return read_matrix(stored, name, job.journal.records[name])


def _enter(streams: Streams, dense: LlamaBlock, threads: int) -> Streams:
    original = streams.original.enter(dense, threads) if streams.original else None
    return Streams(streams.student.enter(dense, threads), original)


def _step(
    streams: Streams, student: LlamaBlock, dense: LlamaBlock, site_index: int, threads: int
) -> Streams:
    original = streams.original.step(dense, site_index, threads) if streams.original else None
    return Streams(streams.student.step(student, site_index, threads), original)


def _decoded(matrix: PackedMatrix, block: LlamaBlock, key: str) -> Linear:
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


def _uncompressed(source: Checkpoint, prefix: str) -> Tensors:
    """Norms and biases of a block: everything of one dimension."""
    return {
        name: source.dense(name)
        for name in source.names()
        if name.startswith(prefix) and len(source.shape(name)) == 1
    }


def _write(job: Job, file: str, tensors: Tensors) -> None:
    write_safetensors(job.folder / file, tensors, {"format": FORMAT})
    check_written(job.folder / file, tensors)  # errors on record are of these arrays
    job.journal.files.append(file)
