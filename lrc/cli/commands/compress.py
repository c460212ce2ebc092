"""``lrc compress``."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from lrc.base.progress import ToldWhenBegun
from lrc.cli.commands.base import (
    Console,
    SubParsers,
    add_json,
    add_model,
    add_out,
    add_threads,
    add_verb,
)
from lrc.cli.commands.effort_options import chosen
from lrc.cli.commands.limit_options import add_limit_options, forecast_for, memory_words
from lrc.cli.commands.spec_options import add_spec_options
from lrc.cli.commands.timed import first_pass_seconds, spend_the_rest, time_line
from lrc.cli.forecast_tables import plan_and_fact
from lrc.cli.portable import asked_for, restart_portable
from lrc.cli.tables import (
    allocation_line,
    arithmetic_line,
    calibration_line,
    experts_line,
    human_size,
    human_time,
    matrix_table,
    number,
    self_test_line,
    table,
)


def add(subparsers: SubParsers) -> None:
    """Add the verb."""
    parser = add_verb(
        subparsers,
        "compress",
        run,
        "compress a model",
        more="Each weight matrix W becomes Q + L R: Q has few bits a weight, L and R are thin. "
        "They are chosen to keep what W makes of its inputs, whose second moments H are measured "
        "on text. MODEL and DIR alone will do: every option has a default. "
        "DIR appears when it is complete. A run that is interrupted or fails keeps what it has "
        "finished in DIR.partial, and the same command goes on from there; with another model, "
        "text or option, or another version of lrc, it starts afresh.",
        example="lrc compress MODEL -o OUT --target-bpw 3 --calib text.txt",
    )
    add_model(parser, "Hugging Face directory with safetensors weights")
    add_out(parser)
    add_spec_options(parser)
    add_limit_options(parser)
    add_threads(parser)
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Compress, then show what every matrix became."""
    if asked_for(args):
        restart_portable(args)
    began = time.perf_counter()
    spec, allocation = chosen(args, console)
    from lrc.base.atomic import check_output
    from lrc.models.opened import open_original
    from lrc.pipeline.asked import check_asked
    from lrc.pipeline.compress import compress
    from lrc.pipeline.forecast.fact import fact_of

    check_output(args.out)
    check_asked(open_original(args.model)[0], spec, allocation, args.survey)
    found = forecast_for(args, spec, allocation, args.out)
    planned = None if found is None else found.to_dict()
    progress = console.progress
    if planned is not None and not args.quiet:  # at the end it is shown in any case
        progress = ToldWhenBegun(progress, _plan_line(planned, args))
    report = compress(
        args.model,
        args.out,
        spec,
        allocation=allocation,
        threads=args.threads,
        progress=progress,
        survey_folder=args.survey,
        ram=args.ram,
        seconds=None if args.time is None else first_pass_seconds(args.time, began),
    )
    fact = fact_of(report)
    timed = None
    if found is not None and planned is not None:
        _keep(console, report.path, planned, fact)
        if args.time is not None:
            timed = spend_the_rest(args, report, found, began, console)
            _keep(console, report.path, planned, fact, timed)
    record: dict[str, Any] = {
        name: getattr(report, name)
        for name in (
            "matrices",
            "allocation",
            "calibration",
            "bits_per_weight_linear",
            "bits_per_weight_file",
            "file_bytes",
            "seconds",
            "seconds_per_block",
            "peak_rss_bytes",
            "self_test",
            "arithmetic",
            "warnings",
        )
    }
    if args.json:
        told = {} if planned is None else {"plan": planned, "fact": fact, "time": timed}
        console.json({"out": str(args.out), "spec": report.spec.to_dict(), **record, **told})
        return
    console.line(matrix_table(report.matrices))
    console.line("")
    console.line(
        f"{args.out}: {human_size(report.file_bytes)}, "
        f"{number(report.bits_per_weight_linear)} bits per weight in the linear layers, "
        f"{number(report.bits_per_weight_file)} in the whole file"
    )
    console.line(calibration_line(report.calibration))
    if experts := experts_line(report.matrices):
        console.line(experts)
    if report.allocation:
        console.line(allocation_line(report.allocation))
    console.line(self_test_line(report.self_test))
    console.line(
        f"took {human_time(report.seconds)}, {human_time(report.seconds_per_block)} a block, "
        f"peak memory {human_size(report.peak_rss_bytes)}"
    )
    if planned is not None:
        console.line("")
        console.line(table(("plan and fact", "planned", "came"), plan_and_fact(planned, fact)))
    if timed is not None:
        console.line(time_line(timed))
    console.line(arithmetic_line(report.arithmetic, portable=report.spec.portable))
    for warning in report.warnings:
        console.line(f"warning: {warning}")


def _keep(console: Console, folder: Path, *what: Any) -> None:
    """Put plan and fact beside a model, which is complete without them."""
    from lrc.base.atomic import OutputError
    from lrc.pipeline.forecast.fact import write_run

    try:
        write_run(folder, *what)
    except OutputError as error:
        console.progress.note(f"{error}; the model is complete, and lacks this file alone")


def _plan_line(planned: dict[str, Any], args: argparse.Namespace) -> str:
    """What is planned, in a sentence."""
    memory, size = planned["memory"], planned["size"]
    line = (
        f"plan: {human_size(size['total'])} in about {human_time(planned['seconds'])}, peak memory "
        f"{human_size(memory['peak_bytes'])}"
    )
    return line if args.ram is None else f"{line}; within --ram by: {memory_words(memory)}"
