"""``lrc tune``."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from lrc.base.resources import peak_rss_bytes
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
        more="Norms, scales and signs - all that is no code - follow the gradient of the KL "
        "divergence from the original's predictions; codes stay as they are. DIR is changed in "
        "place, each time that text which is held out is predicted better than ever, and all at "
        "once: a run that is interrupted leaves the best so far. The same command goes on from "
        "there (DIR.tuning has what it needs), to the bytes of a run that was not interrupted.",
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
        help="what is tuned, with commas: norms, biases, added (biases of matrices that have none, "
        "in 16 bits, which start at 0), gains (a number a matrix), rows (one a row of a matrix, "
        "stored in 16 bits), signs (of the rotation: numbers of 8 bits in their "
        "place), factors (L and R of 16 bits; of coded ones the scales of their components) "
        "(default: norms,gains,rows,signs); or lora",
    )
    parser.add_argument(
        "--calib",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="text to learn from (default: text that the original writes)",
    )
    for name, kind, text in (
        ("tokens", int, "tokens of text to learn from (default: 32768)"),
        ("held-out", int, "further windows that choose what is stored (default: 4)"),
        ("seqlen", int, "tokens of a window (default: 512, or the model's context)"),
        ("passes", int, "times that each window is learnt from (default: 1)"),
        ("batch", int, "windows of a step (default: 2)"),
        ("rate", float, "highest learning rate, over the size of what is tuned (default: that "
         "of the last tuning, or of a trial)"),
        ("checks", int, "how often held-out text is looked at (default: 4)"),
        ("seed", int, "seed of everything drawn (default: 0)"),
    ):  # fmt: skip
        parser.add_argument(f"--{name}", type=kind, metavar="X", help=text)
    parser.add_argument(
        "--minutes", type=float, metavar="M",
        help="make as many steps as fit into that (default: all of the tokens)",
    )  # fmt: skip
    _add_lora(parser)
    add_threads(parser)
    add_json(parser)


def _add_lora(parser: argparse.ArgumentParser) -> None:
    """Options of an adapter, which is written beside the model."""
    group = parser.add_argument_group("--what lora: an adapter for PEFT; the model stays as it is")
    group.add_argument(
        "--task", type=Path, metavar="FILE",
        help='examples: .jsonl with "prompt" and "completion", or "text", a line; or plain lines',
    )  # fmt: skip
    group.add_argument(
        "--lora-rank", type=int, metavar="R", help="components a matrix (default: 64)"
    )
    group.add_argument(
        "--kl", type=float, metavar="X",
        help="what the divergence from the original counts beside the labels (default: 0)",
    )  # fmt: skip
    group.add_argument(
        "-o", "--out", type=Path, metavar="DIR", help="directory of the adapter; must not exist"
    )


def _run_lora(args: argparse.Namespace, console: Console) -> None:
    """Learn an adapter, and write it."""
    if args.task is None or args.out is None:
        raise LrcError("--what lora needs --task FILE, and -o DIR for the adapter")
    from lrc.base.atomic import check_output
    from lrc.convert.peft import stored_names, write_adapter
    from lrc.refine.lora import LoraSpec, learn_adapter

    check_output(args.out)
    given = {"rank": args.lora_rank, "longest": args.seqlen}
    given |= {name: getattr(args, name) for name in ("kl", "passes", "batch", "checks", "seed")}
    spec = LoraSpec(str(args.task), **{k: v for k, v in given.items() if v is not None})
    names = stored_names(args.model)
    found = learn_adapter(
        args.model, args.against, spec, threads=args.threads, progress=console.progress
    )
    write_adapter(args.out, found.factors, names, str(args.model))
    numbers = sum(array.size for pair in found.factors.values() for array in pair)
    if args.json:
        console.json(
            {"before": found.before, "after": found.after, "numbers": numbers,
             "steps": found.steps, "rate": found.rate, "seconds": found.seconds}
        )  # fmt: skip
        return
    console.line(
        f"wrote {args.out}: loss of examples that were held out {number(found.before)} before, "
        f"{number(found.after)} after"
    )
    console.line(
        f"{numbers} numbers, {found.steps} steps at a rate of {found.rate:.2g}, took "
        f"{human_time(found.seconds)}; the model beneath is what lrc export {args.model} writes"
    )


def run(args: argparse.Namespace, console: Console) -> None:
    """Tune, and show what came of it."""
    if args.what is not None and "lora" in args.what.split(","):
        if args.what != "lora":
            raise LrcError("lora is learned alone: the model stays as it is; give --what lora")
        _run_lora(args, console)
        return
    if args.task is not None or args.out is not None:
        raise LrcError("--task and -o are of --what lora; DIR is tuned in place")
    if args.minutes is not None and not args.minutes > 0:
        raise LrcError(f"--minutes {args.minutes} must be positive")
    from lrc.refine.options import TuneSpec
    from lrc.refine.tune import tune

    names = ("tokens", "held_out", "seqlen", "passes", "batch", "rate", "checks", "seed")
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
        console.json({**asdict(report), "peak_rss_bytes": peak_rss_bytes()})
        return
    change = 100 * (report.after / report.before - 1) if report.before else 0.0
    console.line(
        f"{args.model}: KL divergence of held-out text {number(report.before)} before, "
        f"{number(report.after)} after ({change:+.1f} %)"
    )
    console.line(
        f"{report.numbers} numbers, {report.steps} steps at a rate of {report.rate:.2g}, bits a "
        f"weight {report.bits_before:.3f} before, {report.bits_after:.3f} after, took "
        f"{human_time(report.seconds)}"
    )
