"""``lrc imatrix``."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from lrc.cli.commands.base import Console, SubParsers, add_model, add_threads, add_verb
from lrc.cli.commands.calibration_options import add_calibration_options, calibration_values
from lrc.spec import CalibrationSpec


def add(subparsers: SubParsers) -> None:
    """Add the verb."""
    parser = add_verb(
        subparsers,
        "imatrix",
        run,
        "write an importance matrix for llama.cpp",
        more="For every matrix the mean squares of its inputs, measured on text as lrc compress "
        "does: llama-quantize --imatrix FILE rounds by them, and so does lrc compress --imatrix "
        "FILE. Needs the extra gguf.",
        example="lrc imatrix MODEL --calib text.txt -o moments.gguf",
    )
    add_model(parser, "dense model directory")
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="FILE", help="GGUF file to create"
    )
    add_calibration_options(parser)
    add_threads(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Measure, and say of how much."""
    from lrc.pipeline.imatrix import write_imatrix

    given = {k: v for k, v in calibration_values(args).items() if v is not None}
    entries = write_imatrix(
        args.model, args.out, replace(CalibrationSpec(), **given),
        threads=args.threads, progress=console.progress,
    )  # fmt: skip
    tokens = max(float(entry.counts.max()) for entry in entries.values())
    console.line(f"{args.out}: {len(entries)} matrices, mean squares over {tokens:.0f} tokens")
