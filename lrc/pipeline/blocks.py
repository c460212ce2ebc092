"""The compression of a model: a walk whose visitor decomposes every matrix and writes blocks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrc.base.own_files import reading
from lrc.base.progress import Progress
from lrc.base.threads import ordered_map
from lrc.calibrate.streams import Inputs
from lrc.calibrate.table_options import TableOptions
from lrc.calibrate.taught import Taught
from lrc.calibrate.walk import (
    Given,
    SiteAtWork,
    Streams,
    replaced,
    start_stream,
    walk_stacks,
)
from lrc.codebooks import TABLES
from lrc.formats.pages import release_pages
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.formats.safetensors.writing import check_written, write_safetensors
from lrc.linalg.norms import relative_norm
from lrc.models.base import Block, Model, Stack
from lrc.models.tensors import EMBEDDING, HEAD, bias_of, linear_of
from lrc.nn.linear import Linear, make_linear
from lrc.nn.packed import PackedLinear
from lrc.parts.fields import MATRIX
from lrc.parts.matrix import PackedMatrix
from lrc.parts.packed import FORMAT, matrix_record, matrix_tensors, read_matrix
from lrc.pipeline.bases import Bases
from lrc.pipeline.journal import Journal
from lrc.pipeline.learning import learn
from lrc.pipeline.metric import GradientStore
from lrc.pipeline.narrow import Narrower
from lrc.pipeline.site import SiteProblem, site_problems
from lrc.pipeline.time_limit import TimeLimit
from lrc.quant.tables import TABLES_FILE, Tensors, as_float16, read_table, store_table
from lrc.solvers.api import derive_seed
from lrc.solvers.base import Decomposition
from lrc.spec import APART, CompressSpec, MatrixSpec

Table: TypeAlias = "PackedMatrix | NDArray[np.float32]"


@dataclass(frozen=True)
class Job:
    """What every step of one compression reads, and the journal it writes."""

    source: Checkpoint
    model: Model
    spec: CompressSpec
    threads: int
    folder: Path
    journal: Journal
    gradients: GradientStore | None = None
    importance: Mapping[str, NDArray[np.float64]] | None = None
    limit: TimeLimit | None = None
    bases: Bases | None = None

    def as_lowered(self) -> Job:
        """The same with what the journal says of matrices that were late."""
        late = {name: MatrixSpec.from_dict(of) for name, of in self.journal.lowered.items()}
        return replace(self, spec=replace(self.spec, matrices=self.spec.matrices | late))

    @property
    def original_only(self) -> bool:
        """Whether moments come from the original model alone."""
        return self.spec.calibration.streams == "original"

    @property
    def two_streams(self) -> bool:
        """Whether the original's inputs enter the target beside the compressed prefix's."""
        calibration = self.spec.calibration
        wanted = calibration.mix > 0.0 or calibration.repair > 0.0 or self.spec.distil.epochs > 0
        return wanted and not self.original_only


def run_blocks(job: Job, inputs: Inputs, progress: Progress) -> None:
    """Compress and write tables and blocks; blocks already in the journal only run forward."""
    matrices = len(job.model.tensors.matrices)
    with progress.bar("compress", matrices + 1, "matrix") as advance:
        embedding = _tables(job, inputs, progress)
        advance()
        start = partial(_start, job, embedding)
        visitor = _Compressor(job, advance)
        learner = visitor.learn if visitor.teaches else None
        walk_stacks(job.model.stacks, inputs, start, visitor, job.threads, learner)


def _start(
    job: Job, embedding: Table, stack: Stack, chunks: Sequence[NDArray[Any]], given: Given
) -> Streams:
    """Start the streams of a stack.

    The student runs the compressed prefix, or the original one where only that is wanted.
    """
    all_experts = job.spec.calibration.all_experts
    if job.original_only:
        only = start_stream(stack, chunks, job.threads, given.student, all_experts=all_experts)
        job.model.release()
        return Streams(only)
    original = None
    if job.two_streams:
        original = start_stream(stack, chunks, job.threads, given.original, all_experts=all_experts)
        job.model.release()
    compressed = stack.with_tables({EMBEDDING: embedding})
    student = start_stream(compressed, chunks, job.threads, given.student, all_experts=all_experts)
    return Streams(student, original)


def _tables(job: Job, inputs: Inputs, progress: Progress) -> Table:
    """Write embedding and head with what else is outside the blocks; return the embedding.

    Where an unfinished run has written them, they are read.
    """
    names, journal = job.model.tensors.tables, job.journal
    if TABLES_FILE in journal.files:
        name = names[EMBEDDING]
        return read_table(job.folder / TABLES_FILE, name, journal.records.get(name))
    embed_bits, head_bits = job.spec.table_bits()
    how, spec = _table_options(job, inputs, progress), job.spec
    name = names[EMBEDDING]
    packed, tensors, records = store_table(
        job.source, name, embed_bits, EMBEDDING, spec.embed_codebook, **how[name]
    )
    if name := names.get(HEAD, ""):
        _, head, of_head = store_table(
            job.source, name, head_bits, HEAD, spec.head_codebook, **how[name]
        )
        tensors, records = tensors | head, records | of_head
    elif head_bits != embed_bits:
        journal.warn(
            f"the head is tied to the embedding: stored once at {embed_bits} bits, "
            f"head bits {head_bits} not used"
        )
    journal.records |= records
    _write(job, TABLES_FILE, tensors | _plain(job, None))
    journal.save(job.folder)
    return packed


def _table_options(job: Job, inputs: Inputs, progress: Progress) -> TableOptions:
    """How tables are rounded; a head at 16 bits, or in blocks, needs no hidden states."""
    spec, tied = job.spec, HEAD not in job.model.tensors.tables
    bits = spec.table_bits()[0 if tied else 1]
    codebook = spec.embed_codebook if tied else spec.head_codebook
    if bits == 16 or codebook != TABLES or job.importance is not None:
        return TableOptions.plain(job.model, spec, job.threads)
    return TableOptions.of(job.model, inputs, spec, job.threads, progress)


@dataclass
class _Compressor:
    """The visitor that decomposes; other fields are of the block at work.

    What was read of the checkpoint's files is given back site by site: it counts as memory.
    """

    job: Job
    advance: Callable[..., object]
    linears: dict[str, Linear] = field(default_factory=dict)
    tensors: Tensors = field(default_factory=dict)
    dropped: int = 0
    started: float = 0.0

    @cached_property
    def narrower(self) -> Narrower | None:
        """What cuts pairs of matrices together, where that is wanted."""
        spec = self.job.spec
        return None if spec.pairs == APART else Narrower(spec, self.job.source.dense)

    def begin(self, block: int) -> bool:
        """Whether the journal lacks the block."""
        self.started, self.dropped = time.perf_counter(), 0
        self.linears, self.tensors = {}, {}
        release_pages(self.job.source.shards.values())
        return _file(block) not in self.job.journal.files

    def replay(self, block: int, dense: Block) -> dict[str, Linear]:
        """Read what an unfinished run had made of a block."""
        self.advance(len(dense.linears))
        if self.job.original_only:
            return {}
        stored = SafetensorsFile(self.job.folder / _file(block))
        names = self.job.model.tensors.linears(block)
        return {
            key: replaced(dense, key, _read(self.job, stored, name), _stored_bias(stored, name))
            for key, name in names.items()
        }

    def visit(self, at: SiteAtWork) -> dict[str, Linear]:
        """Decompose the matrices of a site."""
        journal = self.job.journal
        self._keep_to_time(at)
        if self.narrower is not None:
            self.narrower.look_at(at, self.job.model.tensors.linears(at.block))
        student = self._left_dense(at)
        for key, found in () if self.narrower is None else self.narrower.visit(at):
            name = self.job.model.tensors.linears(at.block)[key]
            self.tensors |= matrix_tensors(name, found.matrix)
            journal.records[name] = self._record(at.block, name, found, None)
            self.advance()
        for key, found, problem in self._solved(self._apart(at)):
            name = at.tensors[key]
            weight = found.matrix.to_dense()
            bias = problem.bias(key, weight)
            self.tensors |= matrix_tensors(name, found.matrix)
            if self.job.spec.bias and bias is not None:
                self.tensors[bias_of(linear_of(name))] = bias
            if self.teaches:
                self.linears[key] = PackedLinear(found.matrix, bias)
            journal.records[name] = self._record(at.block, name, found, problem)
            if not self.job.original_only:
                student[key] = replaced(at.dense, key, weight, bias)
            self.advance()
        release_pages(self.job.source.shards.values())
        if self.job.limit is not None:
            shapes = (at.dense.linears[key].shape for key in at.site.linears)
            self.job.limit.passed(sum(map(math.prod, shapes)))
        return student

    def _keep_to_time(self, at: SiteAtWork) -> None:
        """Lower the search for the matrices of a site where they are late."""
        job = self.job
        if job.limit is not None:
            late = job.limit.lowered(job.spec, [linear_of(at.tensors[k]) for k in at.site.linears])
            job.journal.lowered |= {name: own.to_dict() for name, own in late.items()}
            self.job = job.as_lowered() if late else job

    def _apart(self, at: SiteAtWork) -> SiteAtWork:
        """The site with those of its matrices that are solved one by one."""
        if self.narrower is None:
            return at
        others = (*self.narrower.narrowed, *self.narrower.whole)
        keys = tuple(key for key in at.site.linears if key not in others)
        return replace(at, site=replace(at.site, linears=keys))

    def _left_dense(self, at: SiteAtWork) -> dict[str, Linear]:
        """The layers of a site whose matrices stay, in 16 bits."""
        layers = {}
        for key in at.site.linears:
            name = at.tensors[key]
            whole = self.narrower is not None and key in self.narrower.whole
            if not whole and not self.job.spec.for_matrix(linear_of(name)).stays_dense:
                continue
            self.tensors[name] = as_float16(at.weight(key), name)
            layers[key] = replaced(at.dense, key, self.tensors[name].astype(np.float32))
            self.advance()
        if self.teaches:
            self.linears |= layers
        return {} if self.job.original_only else layers

    def _solved(self, at: SiteAtWork) -> Iterator[tuple[str, Decomposition, SiteProblem]]:
        """The matrices of a site, in order."""
        job = self.job
        for problem in site_problems(at, job.spec, job.gradients, job.importance, job.bases):
            self.dropped += problem.dropped
            # Matrices are independent: side by side where there are several, and one alone over
            # its rows. Either way the result is that of one thread.
            solved = ordered_map(problem.solve, problem.targets, problem.at_once)
            for key, found in zip(problem.targets, solved, strict=True):
                yield key, found, problem

    @property
    def teaches(self) -> bool:
        """Whether factors are distilled."""
        return self.job.spec.distil.epochs > 0

    def learn(self, block: int, dense: Block, taught: Taught) -> dict[str, Linear]:
        """Distil the factors of the block; put them in the place of those that were solved for."""
        if not any(isinstance(of, PackedLinear) for of in self.linears.values()):
            return self.linears
        spec, names = self.job.spec, self.job.model.tensors.linears(block)
        lessons = learn(
            dense, self.linears, taught, spec.distil,
            seed=derive_seed(spec.decompose.seed, _file(block), "distil"),
            threads=self.job.threads,
        )  # fmt: skip
        packed = {k: of for k, of in lessons.linears.items() if isinstance(of, PackedLinear)}
        for key, linear in packed.items():
            self.tensors |= matrix_tensors(names[key], linear.matrix)
            record = self.job.journal.records[names[key]]
            record["notes"] = [*record["notes"], lessons.note]
            weight = self.job.source.dense(names[key])  # the block has let it go
            record["frobenius_error"] = relative_norm(weight - linear.matrix.to_dense(), weight)
        return self.linears | {
            key: make_linear(linear.matrix.to_dense(), linear.bias)  # as `replay` gives them
            for key, linear in packed.items()
        }

    def end(self, block: int) -> None:
        """Write the block and put it on record."""
        journal = self.job.journal
        _write(self.job, _file(block), _plain(self.job, block) | self.tensors)
        self.tensors = {}
        journal.dropped[_file(block)] = self.dropped
        journal.seconds.append(time.perf_counter() - self.started)
        journal.save(self.job.folder)

    def _record(
        self, block: int, name: str, found: Decomposition, problem: SiteProblem | None
    ) -> dict[str, Any]:
        own = self.job.spec.matrices.get(linear_of(name))
        return {
            **matrix_record(found.matrix),
            "role": MATRIX,
            "file": _file(block),
            "relative_error": found.relative_error,
            "weight_error": found.weight_error,
            "frobenius_error": found.frobenius_error,
            **({} if found.caldera_bound is None else {"caldera_bound": found.caldera_bound}),
            "damping": found.damping,
            "notes": [*(() if problem is None else problem.notes), *found.notes],
            "trace": [[s, e] for s, e in zip(found.trace.steps, found.trace.errors, strict=True)],
            **({} if problem is None else problem.statistics),
            **({} if own is None else {"reason": own.reason}),
        }


def _file(block: int) -> str:
    return f"block-{block:05d}.safetensors"


def _read(job: Job, stored: SafetensorsFile, name: str) -> NDArray[np.float32]:
    """A matrix that an earlier run has written, decoded."""
    record = job.journal.records.get(name)
    with reading(stored.path):
        if record is None:
            return stored.float32(name).copy()
        return read_matrix(stored, name, record).to_dense()


def _stored_bias(stored: SafetensorsFile, name: str) -> NDArray[np.float32] | None:
    bias = bias_of(linear_of(name))
    return stored.float32(bias).copy() if bias in stored.names else None


def _plain(job: Job, block: int | None) -> Tensors:
    """Norms and biases of a block, or of what is outside all of them."""
    names = job.model.tensors.plain(block).values()
    return {name: job.source.dense(name) for name in names}


def _write(job: Job, file: str, tensors: Tensors) -> None:
    job.journal.checksums[file] = write_safetensors(job.folder / file, tensors, {"format": FORMAT})
    check_written(job.folder / file, tensors)  # errors on record are of these arrays
    job.journal.files.append(file)
