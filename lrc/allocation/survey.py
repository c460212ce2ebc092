"""Each matrix quantized once a width with a quick recipe: what every choice would lose."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.allocation.levels import LevelStore
from lrc.allocation.options import WIDTHS, Curves, Option, candidate_ranks, matrix_options
from lrc.base.progress import Progress
from lrc.base.threads import ordered_map
from lrc.calibrate.streams import Stream, site_moment, window_chunks
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.linalg.lowrank import top_output_eigenvectors
from lrc.linalg.norms import proxy_loss
from lrc.models.llama import LlamaModel
from lrc.parts.matrix import PackedMatrix
from lrc.quant.table import quantize_table
from lrc.quant.tables import EMBEDDING, HEAD
from lrc.solvers.api import decompose_at_site, metric_for
from lrc.solvers.site import SiteMetric
from lrc.spec import AllocationSpec, CompressSpec, LowRankSpec, QuantSpec

#: Widths of embedding and head that are chosen from.
TABLE_WIDTHS = (4, 5, 6, 8)


class Tables:
    """Embedding and head at any width, quantized once each."""

    def __init__(self, source: Checkpoint) -> None:
        self._source = source
        self._packed: dict[tuple[str, int], PackedMatrix] = {}

    def dense(self, name: str, bits: int | None) -> NDArray[np.float32]:
        """The table ``name`` (vocab, n) as ``bits`` leave it, or as it is."""
        table = self._source.linear(name, check_finite=True)
        if bits is None:
            return table
        if bits == 16:
            return table.astype(np.float16).astype(np.float32)
        if (name, bits) not in self._packed:
            self._packed[name, bits] = quantize_table(table, bits)[0]
        return self._packed[name, bits].to_dense()


@dataclass(frozen=True)
class Study:
    """What every step of an allocation reads.

    ``surveyed`` and ``heldout`` are token windows (N, T) with none in common where the text
    allows it; ``store`` keeps the survey's results.
    """

    source: Checkpoint
    model: LlamaModel
    spec: CompressSpec
    allocation: AllocationSpec
    surveyed: NDArray[np.integer]
    heldout: NDArray[np.integer]
    threads: int
    store: LevelStore
    tables: Tables
    progress: Progress


def split_windows(
    windows: NDArray[np.integer], allocation: AllocationSpec
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Windows (N, T) for the second moments and, from the end of the text, shorter ones for KL.

    A single window serves both, which is the one case in which they overlap.
    """
    count = min(allocation.heldout_windows, max(len(windows) // 2, 1))
    heldout = windows[-count:, : allocation.heldout_tokens]
    return windows[: max(len(windows) - count, 1)][: allocation.survey_windows], heldout


def survey(study: Study) -> dict[str, tuple[Option, ...]]:
    """Quantize every matrix at every width, bottom first; its options by name.

    Second moments are those of the original model's activations, one block is in memory at a
    time, and what the store holds already is not computed again. Names are without ``.weight``.
    Matrices that the spec names keep what it gives them and have no options.

    Notes
    -----
    Cost: one forward pass, the moments, and at each width one LDLQ rounding, m n^2, and the
    top eigenvectors of the error where a low-rank part could pay.
    """
    model, threads = study.model, study.threads
    parts = window_chunks(study.surveyed)
    stream = Stream.start(ordered_map(model.embed, parts, threads))
    options: dict[str, tuple[Option, ...]] = {}
    total = model.config.layers * sum(len(site.linears) for site in model.sites)
    with study.progress.bar("survey", total, "matrix") as advance:
        for index in range(model.config.layers):
            done = study.store.has(index)
            levels: dict[str, _Levels] = {}
            dense = model.load_block(index)
            stream = stream.enter(dense, threads)
            for site_index, site in enumerate(dense.sites):
                if not done:
                    H = site_moment(stream, None, threads).matrix()
                    prefix = f"model.layers.{index}."
                    names = [f"{prefix}{key}" for key in site.linears]
                    for name, found in _site_levels(study, f"{prefix}{site.name}", names, H):
                        levels[name] = found
                        advance()
                stream = stream.step(dense, site_index, threads)
            if done:
                advance(len(dense.linears))
            else:
                _keep(study, index, levels)
            for name, curves in study.store.curves(index).items():
                if name not in study.spec.matrices:
                    options[name] = _options(study, name, curves)
    return options


@dataclass(frozen=True)
class _Levels:
    """One matrix at every width: packed, its errors, eigenvectors (m, r) of the worst of them."""

    matrices: dict[int, PackedMatrix]
    curves: Curves
    vectors: dict[int, NDArray[np.float64]]


def _site_levels(
    study: Study, site: str, names: list[str], work: NDArray[np.float64]
) -> Iterable[tuple[str, _Levels]]:
    """The matrices of one site, side by side; ``work``, their H, is overwritten."""
    plain = work.astype(np.float32)
    metric = metric_for(work, None, study.spec.decompose, site=site, block_size=8)

    def one(name: str) -> _Levels:
        return _matrix_levels(study, name, metric, plain)

    return zip(names, ordered_map(one, names, study.threads), strict=True)


def _matrix_levels(study: Study, name: str, metric: SiteMetric, H: NDArray[np.float32]) -> _Levels:
    W = study.source.linear(f"{name}.weight", check_finite=True)
    energy = proxy_loss(W, H)
    ranks = candidate_ranks(study.spec.decompose, (W.shape[0], W.shape[1]))
    matrices, curves, vectors = {}, {}, {}
    for bits in WIDTHS:
        quick = dataclasses.replace(
            study.spec.decompose,
            recipe="ldlq",
            quant=QuantSpec.plain(bits),
            low_rank=LowRankSpec(0),
            polish_sweeps=0,
        )
        found = decompose_at_site(W, metric, quick, name=f"{name}.weight", threads=1)
        E = W - found.matrix.to_dense()
        energies, U = _top(E, H, max(ranks), quick.seed)
        captured = np.concatenate(([0.0], np.cumsum(energies))) / max(energy, 1e-300)
        left = np.maximum(found.relative_error**2 - captured, 0.0)
        matrices[bits], vectors[bits] = found.matrix, U
        curves[bits] = {rank: float(left[rank]) for rank in sorted({0, *ranks})}
    return _Levels(matrices, curves, vectors)


def _top(
    E: NDArray[np.float32], H: NDArray[np.float32], rank: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if rank == 0:
        return np.zeros(0), np.zeros((len(E), 0))
    energies, U = top_output_eigenvectors(E, H, rank, seed)
    return np.maximum(energies, 0.0), U


def _keep(study: Study, index: int, levels: dict[str, _Levels]) -> None:
    """Write a block; of the eigenvectors only those that an option of the hull uses."""
    vectors = {}
    for name, found in levels.items():
        used = [option.level for option in _options(study, name, found.curves)]
        vectors[name] = {
            bits: U[:, : max((level.rank for level in used if level.bits == bits), default=0)]
            for bits, U in found.vectors.items()
        }
    study.store.write(
        index,
        {name: found.matrices for name, found in levels.items()},
        {name: found.curves for name, found in levels.items()},
        vectors,
    )


def _options(study: Study, name: str, curves: Curves) -> tuple[Option, ...]:
    m, n = study.source.shape(f"{name}.weight")
    return matrix_options(f"{name}.weight", (m, n), curves, study.spec.decompose)


def survey_tables(study: Study) -> dict[str, dict[int, float]]:
    """Squared relative error of embedding and, where it is not tied, head at each width."""
    tables = [EMBEDDING] if study.model.config.tied else [EMBEDDING, HEAD]
    errors: dict[str, dict[int, float]] = {}
    with study.progress.bar("survey of tables", len(tables), "table") as advance:
        for name in tables:
            table = study.source.linear(name, check_finite=True)

            def error(bits: int, table: NDArray[np.float32] = table) -> float:
                return float(quantize_table(table, bits)[1]["relative_error"]) ** 2

            found = ordered_map(error, TABLE_WIDTHS, min(study.threads, 2))
            errors[name] = dict(zip(TABLE_WIDTHS, found, strict=True))
            advance()
    return errors
