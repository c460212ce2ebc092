"""``--time``: what is done with the time of a compression."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lrc.cli.commands.base import Console
from lrc.cli.tables import human_time, number

if TYPE_CHECKING:
    from lrc.pipeline.forecast import Forecast
    from lrc.pipeline.report import CompressReport

#: Part of the time in which all matrices are to be there.
_ALL_THERE = 0.85
#: Why a matrix was searched less hard for, as `lrc.pipeline.time_limit` begins its reason.
_LATE = "late: "


def first_pass_seconds(seconds: float, began: float) -> float:
    """From now on until all matrices are to be there, of a time that ``began`` then."""
    return max(_ALL_THERE * seconds - (time.perf_counter() - began), 0.0)


def spend_the_rest(
    args: argparse.Namespace,
    report: CompressReport,
    found: Forecast,
    began: float,
    console: Console,
) -> dict[str, Any]:
    """Tune for what is left; the record of what was done with the time."""
    from lrc.models.opened import open_original
    from lrc.pipeline.improve import improve, tune_spec

    first = time.perf_counter() - began
    left = args.time - first
    late = [name for name, own in report.spec.matrices.items() if own.reason.startswith(_LATE)]
    record: dict[str, Any] = {
        "seconds": args.time,
        "first_pass": first,
        "late": len(late),
        "depends_on_the_clock": True,
        "tuned": None,
    }
    model = open_original(args.model)[0]
    spec = tune_spec(
        model, left, found.speeds.multiplications, report.spec.calibration.files,
        same_size=report.allocation is not None,
    )  # fmt: skip
    if spec is not None:
        console.progress.note(f"the model is there; {human_time(left)} are left to tune it in")
        tuned = improve(
            report.path, args.model, spec, left, threads=args.threads, progress=console.progress
        )
        record["tuned"] = asdict(tuned)
    record["took"] = time.perf_counter() - began
    return record


def time_line(timed: Mapping[str, Any]) -> str:
    """What was done with the time.

    Examples
    --------
    >>> of = {"seconds": 120.0, "first_pass": 90.0, "took": 91.0, "late": 3, "tuned": None}
    >>> time_line(of)
    'of 2 min 00 s it took 1 min 31 s: 3 matrices were late; too little was left to tune in'
    """
    late = f"{timed['late']} matrices were late" if timed["late"] else "no matrix was late"
    if timed["tuned"] is None:
        rest = "too little was left to tune in"
    else:
        tuned = timed["tuned"]
        rest = (
            f"tuned for {human_time(tuned['seconds'])}, which took the KL divergence of held-out "
            f"text from {number(tuned['before'])} to {number(tuned['after'])}"
        )
    return f"of {human_time(timed['seconds'])} it took {human_time(timed['took'])}: {late}; {rest}"
