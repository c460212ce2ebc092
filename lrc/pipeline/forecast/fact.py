"""The plan of a run beside what came of it, in ``lrc-run.json`` of the model's directory.

It has ``format`` "lrc-run", ``version`` 1, the ``plan`` of `Forecast.to_dict`, and the ``fact``:
``weights`` and ``total`` bytes, ``peak_bytes`` and ``seconds`` of the process that finished, and
whether it went on from an earlier one (``continued``: then its seconds are not those of the whole).
``time`` is there where one was asked for: its ``seconds``, those of the ``first_pass``, how many
matrices were ``late``, and the tuning that the rest went into.
It lies beside the manifest, which is the same on every machine; times are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrc.base.atomic import atomic_write_json
from lrc.base.own_files import reading
from lrc.base.strict_json import read_object
from lrc.errors import FormatError
from lrc.parts.fields import NUMBER, RUN, check_fields
from lrc.pipeline.report import CompressReport

FORMAT, VERSION = "lrc-run", 1
_FACT = {"weights": NUMBER, "total": NUMBER, "seconds": NUMBER}


def fact_of(report: CompressReport) -> dict[str, Any]:
    """What came of a run."""
    files = (path for path in report.path.rglob("*") if path.is_file() and path.name != RUN)
    return {
        "weights": report.file_bytes,
        "total": sum(path.stat().st_size for path in files),
        "bits_per_weight": report.bits_per_weight_linear,
        "peak_bytes": report.peak_rss_bytes,
        "seconds": report.seconds,
        "continued": report.continued,
    }


def write_run(
    folder: Path,
    plan: Mapping[str, Any],
    fact: Mapping[str, Any],
    timed: Mapping[str, Any] | None = None,
) -> None:
    """Keep them beside the model; ``timed`` is what was done to keep to a time."""
    content: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "plan": dict(plan),
        "fact": dict(fact),
    }
    if timed is not None:
        content["time"] = dict(timed)
    atomic_write_json(folder / RUN, content)


def read_run(folder: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Plan and fact of the run that made the model; None where they were not kept.

    Raises
    ------
    FormatError
        The file is malformed.
    """
    path = folder / RUN
    if not path.is_file():
        return None
    with reading(path, "remove it; it says only how the model was made"):
        content = read_object(path)
        if content.get("format") != FORMAT or content.get("version") != VERSION:
            raise FormatError(f"it is not of {FORMAT} version {VERSION}")
        plan, fact = content.get("plan"), content.get("fact")
        check_fields("the fact", fact, _FACT)
        if not isinstance(plan, dict) or not isinstance(plan.get("size"), dict):
            raise FormatError("it has no plan")
        return plan, dict(fact or {})
