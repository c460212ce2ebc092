"""The matrices of one site as problems that share a metric."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lrc.base.spool import memory_use
from lrc.base.threads import ordered_map
from lrc.calibrate.means import mean_inputs, mean_magnitudes
from lrc.calibrate.walk import SiteAtWork
from lrc.linalg.diagonal_plus_low_rank import Moment, diagonal_of
from lrc.linalg.row_moment import RowMoment
from lrc.linalg.second_moment import SecondMoment
from lrc.models.tensors import linear_of
from lrc.pipeline.bases import Bases
from lrc.pipeline.health import input_notes
from lrc.pipeline.metric import GradientStore
from lrc.refine.layer_gradients import LayerPlace
from lrc.solvers.api import (
    corrected_columns,
    decompose_at_site,
    least_block,
    metric_for,
    target_columns,
)
from lrc.solvers.base import Basis, Decomposition
from lrc.solvers.few_tokens import Metric
from lrc.solvers.statistic import needs_magnitudes, weighting_diagonal
from lrc.spec import FISHER, CalibrationSpec, CompressSpec, DecomposeSpec

#: Matrices up to this size are solved side by side; larger ones in turn, to save memory.
SIDE_BY_SIDE = 1 << 22

#: What a row of no importance counts, over the mean of all: it may be lost, but has a solution.
LEAST_IMPORTANCE = 1e-3

F32 = NDArray[np.float32]
Targets = dict[str, NDArray[np.float32] | None]


@dataclass(frozen=True)
class SiteProblem:
    """What the matrices of a site are fitted to, and under which metric.

    ``targets`` has an entry a matrix, None where it is fitted to itself. ``at_once`` matrices are
    solved side by side, which changes no result. ``statistics`` are what the report says of the
    moments, and ``dropped`` the inputs that were left out because they were not finite. ``mean``
    (n,) is that of the inputs where biases make up for it; moments are then about it. ``notes`` are
    what a reader should know of the inputs.
    """

    at: SiteAtWork
    spec: CompressSpec
    metric: Metric
    targets: Targets
    at_once: int
    statistics: dict[str, float]
    dropped: int
    gradients: GradientStore | None = None
    mean: NDArray[np.float64] | None = None
    bases: Bases | None = None
    notes: tuple[str, ...] = ()

    def solve(self, key: str) -> Decomposition:
        """The decomposition of one matrix."""
        columns, outputs = self._weighting(key)
        if outputs is None:
            outputs = _outputs(self.at, self.gradients, key, self.spec.calibration)
        return decompose_at_site(
            self.at.weight(key),
            self.metric.weighing(columns),
            _spec_of(self.at, self.spec, key),
            name=self.at.tensors[key],
            regression_target=self.targets[key],
            outputs=outputs,
            basis=self._basis(key),
            threads=_inner_threads(self.at, self.at_once),
        )

    def _basis(self, key: str) -> Basis | None:
        return None if self.bases is None else self.bases.of(self.at.block, self.at.tensors[key])

    def importances(self, key: str) -> tuple[F32, F32] | None:
        """Fisher information of a matrix by columns and by rows, where it is looked at.

        Zeros where there are no gradients: no token that was looked at came to an expert.
        """
        if self.spec.decompose.statistic not in FISHER or self.gradients is None:
            return None
        m, n = self.at.weight(key).shape
        found = self.gradients.importances(self.at.block, _place(self.at, key))
        return found or (np.zeros(n, np.float32), np.zeros(m, np.float32))

    def _weighting(
        self, key: str
    ) -> tuple[NDArray[np.float64] | None, NDArray[np.floating] | None]:
        """What a matrix's own gradients weigh columns of its errors by (n,), and rows (m, m)."""
        statistic, found = self.spec.decompose.statistic, self.importances(key)
        if found is None:
            return None, None
        columns, rows = (of.astype(np.float64) for of in found)
        diagonal = weighting_diagonal(statistic, columns, importances=columns)
        if statistic != "fisher-two-sided":
            return diagonal, None
        return diagonal, np.diag(rows + LEAST_IMPORTANCE * (rows.mean() or 1.0))

    def bias(self, key: str, weight: F32) -> F32 | None:
        """The bias (m,) of a layer on what its matrix became: its own, and what its error lacks.

        b + (W - W') E[z], the least squares bias of the layer on W'; its own b without a ``mean``.
        """
        own: F32 | None = getattr(self.at.dense.linears[key], "bias", None)
        if self.mean is None:
            return own
        lost = (self.at.weight(key) - weight) @ self.mean
        return (lost if own is None else own + lost).astype(np.float32)


def site_problems(
    at: SiteAtWork,
    spec: CompressSpec,
    gradients: GradientStore | None = None,
    importance: Mapping[str, NDArray[np.float64]] | None = None,
    bases: Bases | None = None,
) -> Iterator[SiteProblem]:
    """Take the moments of a site and make problems of them, one after the other.

    One for all its matrices but those that stay dense; where gradients say what tokens count at
    each, or mean squares of their inputs are given by name, one a matrix.
    """
    keys = tuple(key for key in at.site.linears if not _spec_of(at, spec, key).stays_dense)
    if importance is not None:
        for key in keys:
            yield _given_problem(at, spec, key, importance[linear_of(at.tensors[key])])
        return
    weights = {key: _token_weights(at, gradients, key) for key in keys}
    if not keys:
        return
    if all(of is None for of in weights.values()):
        yield replace(_site_problem(at, spec, keys, None, gradients), bases=bases)
        return
    for key in keys:
        yield _site_problem(at, spec, (key,), weights[key], gradients)


def _given_problem(
    at: SiteAtWork, spec: CompressSpec, key: str, squares: NDArray[np.float64]
) -> SiteProblem:
    """The problem of one matrix on the mean squares (n,) of its inputs alone."""
    own, weight = _spec_of(at, spec, key), at.weight(key)
    metric = metric_for(
        np.diag(squares), None, own, site=at.name,
        block_size=least_block([own.quant], [weight.shape]), outputs=len(weight),
    )  # fmt: skip
    metric = metric.weighing(weighting_diagonal(own.statistic, squares))
    return SiteProblem(at, spec, metric.without_target(), {key: None}, 1, {"shrinkage": 0.0}, 0)


def _site_problem(
    at: SiteAtWork,
    spec: CompressSpec,
    keys: tuple[str, ...],
    token_weights: list[F32] | None,
    gradients: GradientStore | None,
) -> SiteProblem:
    """The problem of some matrices of a site, to which tokens count alike."""
    repair = spec.calibration.repair if at.site.writes else 0.0
    mean = mean_inputs(at.streams.student, token_weights) if spec.bias else None
    moment = at.moment(
        residual_gap=repair > 0.0,
        token_weights=token_weights,
        device=spec.decompose.device,
        centre=mean,
    )
    dropped = moment.dropped
    statistics = _statistics(at, moment, spec.calibration)
    cross = moment.cross() if at.streams.original else None
    H, residual_gap = moment.matrix(), moment.residual_gap()
    del moment
    zeros = int(np.count_nonzero(diagonal_of(H) == 0))
    notes = input_notes(zeros, len(H))
    diagonal = _weighting(at, spec.decompose.statistic, H)
    metric = metric_for(
        H,
        cross,
        spec.decompose,
        site=at.name,
        block_size=least_block(
            [_spec_of(at, spec, key).quant for key in keys], [at.weight(key).shape for key in keys]
        ),
        shrinkage=statistics["shrinkage"],
        outputs=sum(len(at.weight(key)) for key in keys),
    )
    del H, cross
    metric = metric.weighing(diagonal)
    at_once = _at_once(at, keys)
    targets = _targets(at, keys, metric, spec.calibration.mix, at_once)
    metric = metric.without_target()
    if residual_gap is not None:
        targets = {
            key: corrected_columns(at.weight(key), target, metric, residual_gap, repair, at.threads)
            for key, target in targets.items()
        }
    if spec.decompose.device != "cpu":  # a search leaves most of its multiprocessors idle
        at_once = min(at.threads, len(keys))
    return SiteProblem(
        at, spec, metric, targets, at_once, statistics, dropped, gradients, mean, notes=notes
    )


def _place(at: SiteAtWork, key: str) -> LayerPlace:
    return LayerPlace(at.dense.sites.index(at.site), at.site.linears.index(key))


def _token_weights(at: SiteAtWork, gradients: GradientStore | None, key: str) -> list[F32] | None:
    """What tokens count in the second moment of a matrix's inputs, of each chunk."""
    if gradients is None or at.routed is not None:
        return None
    return gradients.token_weights(at.block, _place(at, key), at.streams.student.hidden)


def _outputs(
    at: SiteAtWork, gradients: GradientStore | None, key: str, calibration: CalibrationSpec
) -> NDArray[np.float32] | None:
    """The moment of the gradients at a matrix's outputs, shrunk towards its mean diagonal."""
    found = None if gradients is None else gradients.outputs(at.block, _place(at, key))
    if found is None:
        return None
    moment, rows = found
    shrinkage = calibration.shrinkage_for(rows)
    moment[np.diag_indices_from(moment)] += shrinkage * np.trace(moment) / len(moment)
    return moment


def _statistics(
    at: SiteAtWork, moment: SecondMoment | RowMoment, calibration: CalibrationSpec
) -> dict[str, float]:
    """Of an expert also the tokens routed to it, and the share of its moment that is of others."""
    shrinkage = calibration.shrinkage_for(moment.effective_rows)
    routed = at.routed
    if routed is None:
        return {"shrinkage": shrinkage}
    return {"shrinkage": shrinkage, "routed_tokens": routed.tokens, "borrowed": moment.borrowed}


def _weighting(at: SiteAtWork, statistic: str, H: Moment) -> NDArray[np.float64] | None:
    """What the recipe weighs errors of L R by, where that is not H (n, n) and known of a site."""
    if statistic in FISHER:
        return None
    magnitudes = mean_magnitudes(at.streams.student) if needs_magnitudes(statistic) else None
    return weighting_diagonal(statistic, np.array(diagonal_of(H), np.float64), magnitudes)


def _spec_of(at: SiteAtWork, spec: CompressSpec, key: str) -> DecomposeSpec:
    return spec.for_matrix(linear_of(at.tensors[key]))


def _at_once(at: SiteAtWork, keys: tuple[str, ...]) -> int:
    """How many of these matrices to solve side by side: one where each is large."""
    largest = max(math.prod(at.dense.linears[key].shape) for key in keys)
    if largest > SIDE_BY_SIDE or not memory_use().side_by_side:
        return 1
    return min(at.threads, len(keys))


def _inner_threads(at: SiteAtWork, at_once: int) -> int:
    return 1 if at_once > 1 else at.threads


def _targets(
    at: SiteAtWork, keys: tuple[str, ...], metric: Metric, mix: float, at_once: int
) -> Targets:
    """What each matrix is fitted to; then the metric's own target can be let go."""

    def one(key: str) -> NDArray[np.float32] | None:
        return target_columns(at.weight(key), metric, mix, _inner_threads(at, at_once))

    return dict(zip(keys, ordered_map(one, keys, at_once), strict=True))
