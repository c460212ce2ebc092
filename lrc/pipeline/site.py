"""The matrices of one site as problems that share a metric."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import ordered_map
from lrc.calibrate.magnitude import mean_magnitudes
from lrc.calibrate.walk import SiteAtWork
from lrc.linalg.diagonal_plus_low_rank import Moment, diagonal_of
from lrc.linalg.row_moment import RowMoment
from lrc.linalg.second_moment import SecondMoment
from lrc.models.tensors import linear_of
from lrc.solvers.api import (
    corrected_columns,
    decompose_at_site,
    least_block,
    metric_for,
    target_columns,
)
from lrc.solvers.base import Decomposition
from lrc.solvers.few_tokens import Metric
from lrc.solvers.statistic import needs_magnitudes, weighting_diagonal
from lrc.spec import CalibrationSpec, CompressSpec, DecomposeSpec

#: Matrices up to this size are solved side by side; larger ones in turn, to save memory.
_SIDE_BY_SIDE = 1 << 22

Targets = dict[str, NDArray[np.float32] | None]


@dataclass(frozen=True)
class SiteProblem:
    """What the matrices of a site are fitted to, and under which metric.

    ``targets`` has an entry a matrix, None where it is fitted to itself. ``at_once`` matrices are
    solved side by side, which changes no result. ``statistics`` are what the report says of the
    moments, and ``dropped`` the inputs that were left out because they were not finite.
    """

    at: SiteAtWork
    spec: CompressSpec
    metric: Metric
    targets: Targets
    at_once: int
    statistics: dict[str, float]
    dropped: int

    def solve(self, key: str) -> Decomposition:
        """The decomposition of one matrix."""
        return decompose_at_site(
            self.at.weight(key),
            self.metric,
            _spec_of(self.at, self.spec, key),
            name=self.at.tensors[key],
            regression_target=self.targets[key],
            threads=_inner_threads(self.at, self.at_once),
        )


def site_problem(at: SiteAtWork, spec: CompressSpec) -> SiteProblem:
    """Take the moments of a site and make a problem of them."""
    repair = spec.calibration.repair if at.site.writes else 0.0
    moment = at.moment(residual_gap=repair > 0.0, device=spec.decompose.device)
    dropped = moment.dropped
    statistics = _statistics(at, moment, spec.calibration)
    cross = moment.cross() if at.streams.original else None
    H, residual_gap = moment.matrix(), moment.residual_gap()
    del moment
    keys = at.site.linears
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
    at_once = _at_once(at)
    targets = _targets(at, metric, spec.calibration.mix, at_once)
    metric = metric.without_target()
    if residual_gap is not None:
        targets = {
            key: corrected_columns(at.weight(key), target, metric, residual_gap, repair, at.threads)
            for key, target in targets.items()
        }
    if spec.decompose.device != "cpu":  # a search leaves most of its multiprocessors idle
        at_once = min(at.threads, len(keys))
    return SiteProblem(at, spec, metric, targets, at_once, statistics, dropped)


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
    """What the recipe weighs errors of L R by, where that is not H (n, n)."""
    magnitudes = mean_magnitudes(at.streams.student) if needs_magnitudes(statistic) else None
    return weighting_diagonal(statistic, np.array(diagonal_of(H), np.float64), magnitudes)


def _spec_of(at: SiteAtWork, spec: CompressSpec, key: str) -> DecomposeSpec:
    return spec.for_matrix(linear_of(at.tensors[key]))


def _at_once(at: SiteAtWork) -> int:
    """How many matrices of a site to solve side by side: one where each is large."""
    keys = at.site.linears
    largest = max(at.weight(key).size for key in keys)
    return min(at.threads, len(keys)) if largest <= _SIDE_BY_SIDE else 1


def _inner_threads(at: SiteAtWork, at_once: int) -> int:
    return 1 if at_once > 1 else at.threads


def _targets(at: SiteAtWork, metric: Metric, mix: float, at_once: int) -> Targets:
    """What each matrix is fitted to; then the metric's own target can be let go."""

    def one(key: str) -> NDArray[np.float32] | None:
        return target_columns(at.weight(key), metric, mix, _inner_threads(at, at_once))

    keys = at.site.linears
    return dict(zip(keys, ordered_map(one, keys, at_once), strict=True))
