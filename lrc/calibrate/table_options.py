"""How embedding and head of a model are rounded: their rotation, and the metric of the head."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lrc.base.progress import Progress
from lrc.calibrate.head_moment import head_moment
from lrc.calibrate.streams import Inputs
from lrc.models.base import Model
from lrc.models.tensors import EMBEDDING, HEAD
from lrc.quant.table import TableMetric
from lrc.solvers.api import derive_seed, metric_for
from lrc.solvers.site import SiteMetric
from lrc.spec import WITH_FEEDBACK, CompressSpec


@dataclass(frozen=True)
class TableOptions:
    """Keywords of :func:`lrc.quant.table.quantize_table` for the tables of a model, by name."""

    by_name: dict[str, dict[str, Any]]

    def __getitem__(self, name: str) -> dict[str, Any]:
        return self.by_name.get(name, {})

    @classmethod
    def plain(cls, model: Model, spec: CompressSpec, threads: int = 1) -> TableOptions:
        """Every weight on its own, rotated where matrices are."""
        solver = spec.decompose
        return cls({
            name: {
                "rotation": solver.rotation,
                "seed": derive_seed(solver.seed, name, "in"),
                "threads": threads,
            }
            for name in model.tensors.tables.values()
        })  # fmt: skip

    @classmethod
    def of(
        cls, model: Model, inputs: Inputs, spec: CompressSpec, threads: int, progress: Progress
    ) -> TableOptions:
        """The table that is multiplied in the metric of the final hidden states.

        Where recipes look at no inputs, as `plain`. Cost of :func:`head_moment`, and n^3/3.
        """
        found, solver = cls.plain(model, spec, threads), spec.decompose
        if solver.recipe not in WITH_FEEDBACK:
            return found
        tables = model.tensors.tables
        name = tables.get(HEAD, tables[EMBEDDING])
        moment = head_moment(model, inputs, threads, progress)
        metric = metric_for(
            moment.matrix(), None, solver, site=name, block_size=1,
            shrinkage=spec.calibration.shrinkage_for(moment.effective_rows),
        )  # fmt: skip
        assert isinstance(metric, SiteMetric)
        weighs = TableMetric(metric.H, metric.feedback, metric.damping)
        return cls(found.by_name | {name: found[name] | {"metric": weighs}})
