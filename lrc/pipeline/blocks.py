"""The compression of a model: a walk whose visitor decomposes every matrix and writes blocks."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import Progress
from lrc.base.threads import ordered_map
from lrc.calibrate.streams import Inputs
from lrc.calibrate.taught import Taught
from lrc.calibrate.walk import (
    Given,
    SiteAtWork,
    Streams,
    replaced,
    start_stream,
    walk_stacks,
)
from lrc.formats.pages import release_pages
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.linalg.norms import relative_norm
from lrc.models.base import Block, Stack
from lrc.models.tensors import EMBEDDING, bias_of, linear_of
from lrc.nn.linear import Linear, make_linear
from lrc.nn.packed import PackedLinear
from lrc.parts.fields import MATRIX
from lrc.parts.packed import matrix_record, matrix_tensors
from lrc.pipeline.block_files import (
    file_of,
    plain_tensors,
    read_stored,
    stored_bias,
    write_file,
)
from lrc.pipeline.job import Job
from lrc.pipeline.learning import learn
from lrc.pipeline.narrow import Narrower
from lrc.pipeline.site import SiteProblem, site_problems
from lrc.pipeline.stored_tables import Table, write_tables
from lrc.quant.tables import Tensors, as_float16
from lrc.solvers.api import derive_seed
from lrc.solvers.base import Decomposition
from lrc.spec import APART


def run_blocks(job: Job, inputs: Inputs, progress: Progress) -> None:
    """Compress and write tables and blocks; blocks already in the journal only run forward."""
    matrices = len(job.model.tensors.matrices)
    with progress.bar("compress", matrices + 1, "matrix") as advance:
        embedding = write_tables(job, inputs, progress)
        advance()
        start = partial(_start, job, embedding)
        visitor = _Compressor(job, advance)
        learner = visitor.learn if visitor.teaches else None
        walk_stacks(job.model, inputs, start, visitor, job.threads, learner)


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
        return file_of(block) not in self.job.journal.files

    def replay(self, block: int, dense: Block) -> dict[str, Linear]:
        """Read what an unfinished run had made of a block."""
        self.advance(len(dense.linears))
        if self.job.original_only:
            return {}
        stored = SafetensorsFile(self.job.folder / file_of(block))
        names = self.job.model.tensors.linears(block)
        return {
            key: replaced(
                dense, key, read_stored(self.job, stored, name), stored_bias(stored, name)
            )
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
            release_pages(job.source.shards.values())  # weights that targets were made of
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
            seed=derive_seed(spec.decompose.seed, file_of(block), "distil"),
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
        write_file(self.job, file_of(block), plain_tensors(self.job, block) | self.tensors)
        self.tensors = {}
        journal.dropped[file_of(block)] = self.dropped
        journal.seconds.append(time.perf_counter() - self.started)
        journal.save(self.job.folder)

    def _record(
        self, block: int, name: str, found: Decomposition, problem: SiteProblem | None
    ) -> dict[str, Any]:
        own = self.job.spec.matrices.get(linear_of(name))
        return {
            **matrix_record(found.matrix),
            "role": MATRIX,
            "file": file_of(block),
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
