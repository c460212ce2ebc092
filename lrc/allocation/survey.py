"""Each matrix quantized once a width with a quick recipe: what every choice would lose."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.allocation.candidates import CandidateStore, Use
from lrc.allocation.options import WIDTHS, Curves, Option, candidate_ranks, matrix_options
from lrc.base.progress import Progress
from lrc.base.threads import ordered_map
from lrc.calibrate.examples import HeldOut
from lrc.calibrate.site_moment import EVERYTHING
from lrc.calibrate.streams import Inputs
from lrc.calibrate.table_options import TableOptions
from lrc.calibrate.walk import Given, SiteAtWork, Streams, start_stream, walk_stacks
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.linalg.diagonal_plus_low_rank import DiagonalPlusLowRank, Moment
from lrc.linalg.lowrank import top_output_eigenvectors
from lrc.linalg.norms import proxy_loss
from lrc.models.base import Block, Model, Stack
from lrc.models.tensors import linear_of, weight_of
from lrc.nn.linear import Linear
from lrc.parts.matrix import PackedMatrix
from lrc.quant.table import quantize_table
from lrc.solvers.api import decompose_at_site, metric_for
from lrc.solvers.few_tokens import Metric
from lrc.spec import AllocationSpec, CompressSpec, LowRankSpec, QuantSpec

#: Widths of embedding and head that are chosen from.
TABLE_WIDTHS = (4, 5, 6, 8)


class Tables:
    """Embedding and head at any width, quantized once each."""

    def __init__(self, source: Checkpoint, options: TableOptions) -> None:
        self._source, self._options = source, options
        self._found: dict[tuple[str, int], tuple[PackedMatrix, float]] = {}

    def dense(self, name: str, bits: int | None) -> NDArray[np.float32]:
        """The table ``name`` (vocab, n) as ``bits`` leave it, or as it is."""
        table = self._source.linear(name, check_finite=True)
        if bits is None:
            return table
        if bits == 16:
            return table.astype(np.float16).astype(np.float32)
        return self._at(name, bits)[0].to_dense()

    def error(self, name: str, bits: int) -> float:
        """Squared relative error of the table, in the metric that it is rounded in."""
        return self._at(name, bits)[1]

    def _at(self, name: str, bits: int) -> tuple[PackedMatrix, float]:
        if (name, bits) not in self._found:
            table = self._source.linear(name, check_finite=True)
            packed, record = quantize_table(table, bits, **self._options[name])
            self._found[name, bits] = packed, float(record["relative_error"]) ** 2
        return self._found[name, bits]


@dataclass(frozen=True)
class SurveyJob:
    """What every step of an allocation reads.

    ``surveyed`` and ``heldout`` are examples with none in common where there are several;
    ``store`` keeps the survey's results.
    """

    source: Checkpoint
    model: Model
    spec: CompressSpec
    allocation: AllocationSpec
    surveyed: Inputs
    heldout: HeldOut
    threads: int
    store: CandidateStore
    tables: Tables
    progress: Progress


def survey(job: SurveyJob) -> dict[str, tuple[Option, ...]]:
    """Quantize every matrix at every width, bottom first; its options by name.

    Second moments are those of the original model's activations, one block is in memory at a
    time, and what the store holds already is not computed again. Names are without ``.weight``.
    Matrices that the spec names keep what it gives them and have no options.

    Notes
    -----
    Cost: one forward pass, the moments, and at each width one LDLQ rounding, m n^2, and the
    top eigenvectors of the error where a low-rank part could pay.
    """
    with job.progress.bar("survey", len(job.model.tensors.matrices), "matrix") as advance:
        visitor, all_experts = _Surveyor(job, advance), job.spec.calibration.all_experts

        def start(stack: Stack, chunks: Sequence[NDArray[Any]], given: Given) -> Streams:
            own = start_stream(stack, chunks, job.threads, given.student, all_experts=all_experts)
            return Streams(own)

        walk_stacks(job.model, job.surveyed, start, visitor, job.threads)
    return visitor.options


@dataclass
class _Surveyor:
    """The visitor of a survey, on the original's stream alone.

    ``options`` are those found so far, ``candidates`` and ``uses`` the block's, all by name.
    """

    job: SurveyJob
    advance: Callable[..., object]
    options: dict[str, tuple[Option, ...]] = field(default_factory=dict)
    candidates: dict[str, _Candidates] = field(default_factory=dict)
    uses: dict[str, Use] = field(default_factory=dict)

    def begin(self, block: int) -> bool:
        """Whether the store has no results of the block."""
        return not self.job.store.has(block)

    def replay(self, block: int, dense: Block) -> dict[str, Linear]:
        """Take the options from the store; the block stays as it is."""
        self.advance(len(dense.linears))
        self._take_options(block)
        return {}

    def visit(self, at: SiteAtWork) -> dict[str, Linear]:
        """Round every matrix at every width; the site stays as it is."""
        work = at.moment(device=self.job.spec.decompose.device).matrix()
        plain = work if isinstance(work, DiagonalPlusLowRank) else work.astype(np.float32)
        metric = metric_for(work, None, self.job.spec.decompose, site=at.name, block_size=8)
        routed = at.routed or EVERYTHING
        uses = Use(routed.part, routed.mass)

        def one(key: str) -> _Candidates:
            return _matrix_candidates(self.job, at.tensors[key], at.weight(key), metric, plain)

        found = ordered_map(one, at.site.linears, at.threads)
        for key, candidates in zip(at.site.linears, found, strict=True):
            name = linear_of(at.tensors[key])
            self.candidates[name], self.uses[name] = candidates, uses
            self.advance()
        return {}

    def end(self, block: int) -> None:
        """Write the block's results."""
        _keep(self.job, block, self.candidates, self.uses)
        self.candidates, self.uses = {}, {}
        self._take_options(block)

    def _take_options(self, block: int) -> None:
        names = map(linear_of, self.job.model.tensors.linears(block).values())
        ranks = {name: _ranks(self.job, name) for name in names}
        for name, curves in self.job.store.curves(block, ranks).items():
            if name not in self.job.spec.matrices:
                self.options[name] = _options(self.job, name, curves)


@dataclass(frozen=True)
class _Candidates:
    """One matrix at every width: packed, its errors, eigenvectors (m, r) of the worst of them."""

    matrices: dict[int, PackedMatrix]
    curves: Curves
    vectors: dict[int, NDArray[np.float64]]


def _matrix_candidates(
    job: SurveyJob,
    tensor: str,
    W: NDArray[np.float32],
    metric: Metric,
    H: Moment,
) -> _Candidates:
    energy = proxy_loss(W, H)
    ranks = _ranks(job, linear_of(tensor))
    matrices, curves, vectors = {}, {}, {}
    for bits in WIDTHS:
        quick = dataclasses.replace(
            job.spec.decompose,
            recipe="ldlq",
            quant=QuantSpec.plain(bits),
            low_rank=LowRankSpec(0),
            polish_sweeps=0,
        )
        found = decompose_at_site(W, metric, quick, name=tensor, threads=1)
        E = W - found.matrix.to_dense()
        energies, U = _top(E, H, max(ranks), quick.seed)
        captured = np.concatenate(([0.0], np.cumsum(energies))) / max(energy, 1e-300)
        left = np.maximum(found.relative_error**2 - captured, 0.0)
        matrices[bits], vectors[bits] = found.matrix, U
        curves[bits] = {rank: float(left[rank]) for rank in ranks}
    return _Candidates(matrices, curves, vectors)


def _top(
    E: NDArray[np.float32], H: Moment, rank: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if rank == 0:
        return np.zeros(0), np.zeros((len(E), 0))
    energies, U = top_output_eigenvectors(E, H, rank, seed)
    return np.maximum(energies, 0.0), U


def _keep(
    job: SurveyJob,
    index: int,
    candidates: Mapping[str, _Candidates],
    uses: Mapping[str, Use],
) -> None:
    """Write a block; of the eigenvectors only those that an option of the hull uses."""
    vectors = {}
    for name, found in candidates.items():
        used = [option.candidate for option in _options(job, name, found.curves)]
        vectors[name] = {
            bits: U[
                :,
                : max((candidate.rank for candidate in used if candidate.bits == bits), default=0),
            ]
            for bits, U in found.vectors.items()
        }
    job.store.write(
        index,
        {name: found.matrices for name, found in candidates.items()},
        {name: found.curves for name, found in candidates.items()},
        vectors,
        uses,
    )


def _ranks(job: SurveyJob, name: str) -> list[int]:
    """Ranks of a linear layer's curves, 0 among them."""
    m, n = job.model.tensors.shape(weight_of(name))
    return sorted({0, *candidate_ranks(job.spec.decompose, (m, n))})


def _options(job: SurveyJob, name: str, curves: Curves) -> tuple[Option, ...]:
    tensor = weight_of(name)
    m, n = job.model.tensors.shape(tensor)
    return matrix_options(tensor, (m, n), curves, job.spec.decompose)


def survey_tables(job: SurveyJob) -> dict[str, dict[int, float]]:
    """Squared relative error of each stored table at each width, by name."""
    tables = list(job.model.tensors.tables.values())
    errors: dict[str, dict[int, float]] = {}
    with job.progress.bar("survey of tables", len(tables), "table") as advance:
        for name in tables:
            errors[name] = {bits: job.tables.error(name, bits) for bits in TABLE_WIDTHS}
            advance()
    return errors
