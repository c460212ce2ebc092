"""``lrc compress``."""

from __future__ import annotations

import argparse
from typing import Any

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
from lrc.cli.commands.spec_options import add_spec_options
from lrc.cli.tables import (
    allocation_line,
    calibration_line,
    experts_line,
    human_size,
    human_time,
    matrix_table,
    number,
    self_test_line,
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
    add_threads(parser)
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Compress, then show what every matrix became."""
    spec, allocation = chosen(args, console)
    from lrc.pipeline.compress import compress

    report = compress(
        args.model,
        args.out,
        spec,
        allocation=allocation,
        threads=args.threads,
        progress=console.progress,
        survey_folder=args.survey,
    )
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
            "warnings",
        )
    }
    if args.json:
        console.json({"out": str(args.out), "spec": report.spec.to_dict(), **record})
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
    for warning in report.warnings:
        console.line(f"warning: {warning}")
