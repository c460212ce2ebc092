"""``lrc demo``."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from lrc.cli.commands.base import Console, SubParsers, add_json, add_threads, add_verb
from lrc.cli.demo.plan import MINUTES, ROUNDED_GROUP
from lrc.cli.demo.records import Record
from lrc.cli.demo.run import CTX, QUESTION, WINDOWS, DemoResult, default_folder, run_demo
from lrc.cli.tables import human_size, human_time, number, table, with_error

#: Of the models, in the order in which they are shown.
NAMES = ("original", "compressed", "plain rounding")


def add(subparsers: SubParsers) -> None:
    """Add the verb."""
    parser = add_verb(
        subparsers,
        "demo",
        run,
        "fetch a small model, compress it, and show it beside the original and plain rounding",
        more=f"A short probe of the machine decides how much text is looked at, and how hard codes "
        f"are searched for, so that all of it takes about {MINUTES:.0f} minutes. A second run "
        "shows what is on disk.",
    )
    parser.add_argument(
        "--dir",
        type=Path,
        metavar="DIR",
        help=f"where models and results are kept (default: {default_folder()})".replace("%", "%%"),
    )
    parser.add_argument(
        "--windows",
        type=int,
        default=WINDOWS,
        metavar="N",
        help=f"windows of {CTX} tokens to evaluate on (default: {WINDOWS})",
    )
    add_threads(parser)
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Run the demo and show its table and answers."""
    result = run_demo(
        args.dir, threads=args.threads, progress=console.progress, windows=args.windows
    )
    if args.json:
        console.json(dataclasses.asdict(result))
        return
    console.line(demo_table(result))
    console.line("")
    console.line(
        f"Compressed in {human_time(result.compression['seconds'])}, "
        f"peak memory {human_size(result.compression['peak_rss_bytes'])}. "
        f"Perplexity and KL divergence on Python's help topics, second half of "
        f"{args.windows} windows of {CTX} tokens, on float32 activations. "
        "Plain rounding: each weight to the nearest of evenly spaced values, a scale for "
        f"{ROUNDED_GROUP} of them."
    )
    for name, record in zip(NAMES, _each(result), strict=True):
        console.line("")
        console.line(f'"{QUESTION}" - {name}:')
        console.line(record["text"].strip())
    console.line("")
    console.line(f"Models and records: {result.folder}")


def demo_table(result: DemoResult) -> str:
    """All models side by side."""
    each = _each(result)
    rows = [
        ("size", *(human_size(r["file_bytes"]) for r in each)),
        ("bits per weight, linear layers", *(number(r["bits_per_weight_linear"]) for r in each)),
        ("bits per weight, whole file", *(number(r["bits_per_weight_file"]) for r in each)),
        ("perplexity", *(with_error(r["perplexity"], r["perplexity_stderr"]) for r in each)),
        ("KL divergence", *(with_error(r["kl_divergence"], r["kl_stderr"]) for r in each)),
        ("top-1 agreement", *(number(r["top1_agreement"], 3) for r in each)),
        ("tokens/s", *(number(r["tokens_per_second"], 3) for r in each)),
        ("peak memory, generating", *(human_size(r["peak_rss_bytes"]) for r in each)),
    ]
    return table(("", *NAMES), rows)


def _each(result: DemoResult) -> tuple[Record, ...]:
    return result.original, result.compressed, result.rounded
