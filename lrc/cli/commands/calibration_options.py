"""The options of ``lrc compress`` on what is calibrated on, and how."""

from __future__ import annotations

import argparse
from typing import Any

from lrc.cli.commands.values import fraction_or_auto, number_or_auto
from lrc.spec import STREAMS, CalibrationSpec


def add_calibration_options(parser: argparse.ArgumentParser, *, imatrix: bool = False) -> None:
    """Add them; one that is not given leaves the value of ``--config``, or else the default."""
    calib = CalibrationSpec()
    calibration = parser.add_argument_group("calibration")
    calibration.add_argument(
        "--calib",
        nargs="+",
        metavar="FILE",
        help="text files, or .jsonl with a text a line; windows are drawn over all of them "
        "(default: text that the model writes itself)",
    )
    if imatrix:
        calibration.add_argument(
            "--imatrix",
            metavar="FILE",
            help="importance matrix of llama.cpp, whose mean squares of inputs stand for text "
            "(needs the extra gguf)",
        )
    calibration.add_argument(
        "--written",
        type=float,
        metavar="PART",
        help="part of the windows that the model writes beside the files of --calib (default: "
        f"{calib.written:g})",
    )
    calibration.add_argument(
        "--shipped",
        type=float,
        metavar="PART",
        help="part of the windows from prose and code that ship with Python (default: "
        f"{calib.shipped:g})",
    )
    calibration.add_argument(
        "--nsamples", type=int, help=f"windows of text (default: {calib.nsamples})"
    )
    calibration.add_argument(
        "--seqlen",
        type=number_or_auto,
        help="tokens of a window (default: auto, 512 or the model's context where it is shorter)",
    )
    calibration.add_argument(
        "--streams",
        choices=STREAMS,
        help="inputs that H is measured on: the original model's, or those and the compressed "
        f"layers' before (default: {calib.streams})",
    )
    calibration.add_argument(
        "--mix",
        type=float,
        help=f"share of the original's inputs in the target (default: {calib.mix})",
    )
    calibration.add_argument(
        "--repair",
        type=float,
        help="share of what the residual stream has lost that is asked back of layers writing "
        f"to it (default: {calib.repair})",
    )
    calibration.add_argument(
        "--shrinkage",
        type=fraction_or_auto,
        help=f"share of its diagonal added to each second moment (default: {calib.shrinkage})",
    )
    calibration.add_argument(
        "--calibrate-all-experts",
        action="store_true",
        default=None,
        help="let every expert of a mixture see all tokens (default: those routed to it, and the "
        "fewer these are, the more of all others)",
    )


def calibration_values(args: argparse.Namespace) -> dict[str, Any]:
    """Fields of :class:`~lrc.spec.CalibrationSpec`, None where an option is not given."""
    given = getattr(args, "imatrix", None)
    return {
        "imatrix": given,
        "files": None if args.calib is None else tuple(args.calib),
        "written": args.written,
        "shipped": args.shipped,
        "nsamples": args.nsamples,
        "seqlen": args.seqlen,
        "streams": args.streams or ("original" if given else None),
        "mix": args.mix,
        "repair": args.repair,
        "shrinkage": args.shrinkage,
        "all_experts": args.calibrate_all_experts,
    }
