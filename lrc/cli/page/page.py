"""The page: facts from a compressed model's directory, into a template, as one string."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from lrc.cli.page.peer import Peer
from lrc.cli.page.shareable import shareable
from lrc.cli.tables import experts_line, human_size, number, self_test_line
from lrc.errors import LrcError
from lrc.formats.hub import model_name
from lrc.measure.breakdown import breakdown
from lrc.measure.quality import KeptEvaluation, Quality, kept_quality
from lrc.measure.storage import Storage, storage
from lrc.parts.packed import PackedCheckpoint, open_model_files

#: In every page; a file that has it may be replaced by a new page.
GENERATOR = '<meta name="generator" content="lrc report">'
_TEMPLATE = Path(__file__).with_name("page.html.jinja")
#: Bytes of a weight of the original, by what its configuration says; 16 bits where it says nothing.
_WEIGHT_BYTES = {"float32": 4, "float64": 8}


def check_extra(what: str = "a report") -> None:
    """Refuse ``what`` where jinja2 is missing, before any work.

    Raises
    ------
    LrcError
        Saying what to install.
    """
    if importlib.util.find_spec("jinja2") is None:
        raise LrcError(f"{what} needs jinja2; install the extra: pip install 'lrc-llm[report]'")


@dataclass(frozen=True)
class Output:
    """A compressed model and what a page tells of it."""

    name: str
    source: PackedCheckpoint
    quality: Quality

    @classmethod
    def open(cls, path: Path) -> Output:
        """Open a compressed model's directory.

        Raises
        ------
        LrcError
            It is none, or is malformed.
        """
        source = open_model_files(path)
        if not isinstance(source, PackedCheckpoint):
            raise LrcError(f"{path} is not compressed; give what lrc compress wrote")
        return cls(model_name(path), source, kept_quality(source))

    @cached_property
    def sizes(self) -> Storage:
        """Bits a weight and bytes."""
        return storage(self.source)

    @cached_property
    def breakdown(self) -> dict[str, int]:
        """Bytes by what they hold."""
        return breakdown(self.source)

    @cached_property
    def report(self) -> dict[str, Any]:
        """The manifest, without folders of texts."""
        return shareable(self.source.report)

    @property
    def hears(self) -> bool:
        """Whether it writes down speech."""
        return self.source.config.get("model_type") == "whisper"

    @property
    def original_bytes(self) -> int:
        """Bytes of the original's weights in the type that its configuration names."""
        config = self.source.config
        dtype = config.get("torch_dtype") or config.get("dtype")
        return int(self.report["source"]["parameters"]) * _WEIGHT_BYTES.get(str(dtype), 2)


def render(output: Output | None, others: Sequence[Output | Peer] = ()) -> str:
    """The page of an output, with a comparison where there are others, or of the comparison alone.

    Parameters
    ----------
    output : Output or None
    others : sequence of Output or Peer
        Compared with each other, and with ``output``.

    Returns
    -------
    str
        HTML that loads nothing.

    Raises
    ------
    LrcError
        jinja2 is missing.
    """
    check_extra()
    import jinja2
    from markupsafe import Markup

    from lrc.cli.page import svg
    from lrc.cli.page.compared import compared

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATE.parent), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= {"size": human_size, "number": number}
    every: list[Output | Peer] = [] if output is None else [output]
    every += [other for other in others if other is not output]
    return environment.get_template(_TEMPLATE.name).render(
        generator=Markup(GENERATOR),
        chart_style=svg.STYLE,
        title=output.name if output else "comparison",
        o=None if output is None else _facts(output),
        compared=compared(every) if others else None,
    )


def _facts(output: Output) -> dict[str, Any]:
    """What the template is told of an output."""
    from lrc.cli.page import choices, svg
    from lrc.cli.page.by_block import rank_of, series
    from lrc.cli.page.remarks import remarks

    report, found = output.report, output.quality.evaluations
    matrices = report["matrices"]
    warnings, notes = remarks(report, output.quality.outdated)
    allocation = report.get("allocation")
    return {
        "name": output.name,
        "family": str(output.source.config.get("model_type", "unknown")),
        "parameters": report["source"]["parameters"],
        "hears": output.hears,
        "library": str(report.get("library", "lrc")),
        "before": output.original_bytes,
        **output.sizes,
        "quality": [(e, _whisker(e, found)) for e in found],
        "samples": output.quality.samples,
        "tuned": report.get("tuned", ()),
        "self_test": self_test_line(report["self_test"]) if report.get("self_test") else "",
        "breakdown": output.breakdown,
        "bar": svg.stacked(output.breakdown),
        "charts": [
            (
                title,
                f"{says}; faint {number(min(ends), 3)}, strong {number(max(ends), 3)}",
                svg.heat(drawn, title),
            )
            for title, says, field in _CHARTS
            if (drawn := series(matrices, field)) and _varies(drawn) and (ends := _points(drawn))
        ],
        "constant": [
            f"{title}: {number(_points(drawn)[0])} everywhere"
            for title, _, field in _CHARTS
            if (drawn := series(matrices, field)) and not _varies(drawn)
        ],
        "kinds": choices.kinds_of_matrices(matrices),
        "calibration": choices.calibration(report),
        "experts": experts_line(matrices),
        "allocation": choices.origin_of_plan(allocation) if allocation else "",
        "plan": _plan(output, found),
        "differing": choices.differing(report.get("spec", {})),
        "matrices": {name: record | {"rank": rank_of(record)} for name, record in matrices.items()},
        "warnings": warnings,
        "notes": notes,
        "commands": choices.commands(report, found),
        "calibrated_by_caller": choices.is_calibrated_by_caller(report),
        "spec": json.dumps(report.get("spec", {}), indent=2),
        "digest": output.source.digest(),
    }


def _plan(output: Output, found: tuple[KeptEvaluation, ...]) -> list[tuple[str, ...]]:
    """What was planned of the run and, for a budget, of the model, beside what came."""
    from lrc.cli.forecast_tables import plan_and_fact
    from lrc.cli.page import choices
    from lrc.pipeline.forecast.fact import read_run

    run = read_run(output.source.path)
    rows: list[tuple[str, ...]] = [] if run is None else [*plan_and_fact(*run)]
    if allocation := output.report.get("allocation"):
        rows += choices.plan_against_fact(allocation, output.sizes, found)
    return rows


_CHARTS = (
    ("relative error", "what is lost of a matrix's outputs on the calibration's inputs",
     "relative_error"),
    ("bits a weight", "all stored bits of a matrix over its weights", "bits_per_weight"),
    ("rank", "of L R", "rank"),
)  # fmt: skip


def _points(drawn: dict[str, list[tuple[float, float]]]) -> list[float]:
    return [value for line in drawn.values() for _, value in line]


def _varies(drawn: dict[str, list[tuple[float, float]]]) -> bool:
    return len({round(value, 6) for value in _points(drawn)}) > 1


def _whisker(of: KeptEvaluation, every: Sequence[KeptEvaluation]) -> Any:
    """The divergence's interval on a scale that all evaluations share; None where there is none."""
    from lrc.cli.page import svg

    value = of.kl_divergence
    if value is None:
        return None
    ends = [e for one in every for e in (one.kl_divergence, *(one.kl_interval or ())) if e]
    axis = svg.scale(ends or [1.0], 6, svg.WIDTH - 6)
    return svg.whisker(value, finite(of.kl_interval), axis, f"KL divergence {value:.3g}")


def finite(interval: Sequence[float | None] | None) -> tuple[float, float] | None:
    """The ends of an interval, where it has both."""
    if interval is None or len(interval) != 2 or None in interval:
        return None
    low, high = (float(end) for end in interval if end is not None)
    return (low, high) if math.isfinite(low) and math.isfinite(high) else None
