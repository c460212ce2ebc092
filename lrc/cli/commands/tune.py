"""``lrc tune``."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from lrc.cli.commands.base import Console, SubParsers, add_json, add_threads, add_verb
from lrc.cli.tables import human_time, number
from lrc.errors import LrcError


def add(subparsers: SubParsers) -> None:
    """Add the verb."""
    parser = add_verb(
        subparsers,
        "tune",
        run,
        "tune a compressed model against its original",
        more="Norms, gains and other numbers that are no codes follow the gradient of the KL "
        "divergence from the original's predictions; codes stay as they are. DIR is changed in "
        "place, each time that text which is held out is predicted better than ever, and all at "
        "once: a run that is interrupted leaves the best so far, and another one goes on from it.",
        example="lrc tune OUT --against MODEL --calib text.txt",
    )
    parser.add_argument("model", type=Path, metavar="DIR", help="compressed model directory")
    parser.add_argument(
        "--against",
        type=Path,
        required=True,
        metavar="ORIGINAL",
        help="directory of the model that it was made from",
    )
    parser.add_argument(
        "--what",
        metavar="KINDS",
        help="what is tuned, with commas: norms, biases, gains (a number a matrix), rows (one a "
        "row of a matrix, stored in 16 bits), factors (L and R of 16 bits; of coded ones the "
        "scales of their components) (default: norms,gains)",
    )
    parser.add_argument(
        "--calib",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="text to learn from (default: text that the original writes)",
    )
    for name, kind, text in (
        ("windows", int, "windows of text to learn from (default: 64)"),
        ("held-out", int, "further windows that choose what is stored (default: 8)"),
        ("seqlen", int, "tokens of a window (default: 512, or the model's context)"),
        ("passes", int, "times that each window is learnt from (default: 2)"),
        ("batch", int, "windows of a step (default: 4)"),
        ("rate", float, "highest learning rate, over the size of what is tuned (default: 0.002)"),
        ("checks", int, "how often held-out text is looked at (default: 8)"),
        ("seed", int, "seed of everything drawn (default: 0)"),
    ):
        parser.add_argument(f"--{name}", type=kind, metavar="X", help=text)
    parser.add_argument(
        "--minutes", type=float, metavar="M", help="begin no step later than that (default: none)"
    )
    add_threads(parser)
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Tune, and show what came of it."""
    if args.minutes is not None and not args.minutes > 0:
        raise LrcError(f"--minutes {args.minutes} must be positive")
    from lrc.refine.options import TuneSpec
    from lrc.refine.tune import tune

    names = ("windows", "held_out", "seqlen", "passes", "batch", "rate", "checks", "seed")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.what is not None:
        given["what"] = tuple(args.what.split(","))
    if args.calib is not None:
        given["files"] = tuple(map(str, args.calib))
    report = tune(
        args.model, args.against, TuneSpec(**given),
        minutes=args.minutes, threads=args.threads, progress=console.progress,
    )  # fmt: skip
    if args.json:
        console.json(asdict(report))
        return
    change = 100 * (report.after / report.before - 1) if report.before else 0.0
    console.line(
        f"{args.model}: KL divergence of held-out text {number(report.before)} before, "
        f"{number(report.after)} after ({change:+.1f} %)"
    )
    console.line(
        f"{report.numbers} numbers, {report.steps} steps, took {human_time(report.seconds)}"
    )
