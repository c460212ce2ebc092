"""``lrc repair``."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from lrc.cli.commands.base import Console, SubParsers, add_json, add_threads, add_verb
from lrc.cli.commands.calibration_options import add_calibration_options, calibration_values
from lrc.cli.tables import human_size, human_time, number
from lrc.spec import CalibrationSpec


def add(subparsers: SubParsers) -> None:
    """Add the verb."""
    parser = add_verb(
        subparsers,
        "repair",
        run,
        "write an adapter that brings a quantized model closer to its original",
        more="L R of each matrix makes up for what its quantization lost, measured on the inputs "
        "that it sees in the quantized model. For a GGUF file llama.cpp adds it: --lora FILE. For "
        "a directory of GPTQ, AWQ or compressed-tensors it is a directory for PEFT.",
        example="lrc repair MODEL.gguf --against ORIGINAL -o adapter.gguf --calib text.txt",
    )
    parser.add_argument(
        "file", type=Path, metavar="MODEL", help="GGUF file, or directory of quantized weights"
    )
    parser.add_argument(
        "--against",
        type=Path,
        required=True,
        metavar="ORIGINAL",
        help="dense directory of the model that it was made from",
    )
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="FILE", help="adapter to create"
    )
    parser.add_argument("--rank", type=int, default=32, help="rank of L R (default: 32)")
    parser.add_argument(
        "--passes",
        type=int,
        default=0,
        metavar="N",
        help="times that all L R together then learn from the text what the original predicts "
        "(default: 0)",
    )
    add_calibration_options(parser)
    add_threads(parser)
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Repair, and show how much of the error went."""
    from lrc.pipeline.mending import repair

    given = {k: v for k, v in calibration_values(args).items() if v is not None}
    report = repair(
        args.file, args.against, args.out, args.rank, replace(CalibrationSpec(), **given),
        passes=args.passes, threads=args.threads, progress=console.progress,
    )  # fmt: skip
    if args.json:
        errors = {name: list(pair) for name, pair in report.errors.items()}
        console.json(
            {"out": str(report.out), "rank": report.rank, "tokens": report.tokens,
             "file_bytes": report.file_bytes, "seconds": report.seconds, "errors": errors,
             "divergence": report.divergence}
        )  # fmt: skip
        return
    before, after = (
        sum(pair[i] for pair in report.errors.values()) / len(report.errors) for i in (0, 1)
    )
    console.line(
        f"{report.out}: {human_size(report.file_bytes)}, rank {report.rank} of "
        f"{len(report.errors)} matrices; mean relative error of their outputs {number(before)} "
        f"before, {number(after)} after"
    )
    if report.divergence is not None:
        told = " before all learned together, ".join(map(number, report.divergence))
        console.line(f"KL divergence a token of held-out windows: {told} after")
    console.line(f"{report.tokens} tokens, took {human_time(report.seconds)}")
