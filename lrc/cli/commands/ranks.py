"""``lrc ranks``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrc.cli.commands.base import (
    Console,
    SubParsers,
    add_json,
    add_model,
    add_threads,
    add_verb,
)
from lrc.cli.tables import number, table
from lrc.errors import LrcError

if TYPE_CHECKING:
    from lrc.allocation.spectra import Spectrum


def add(subparsers: SubParsers) -> None:
    """Add the verb."""
    parser = add_verb(
        subparsers,
        "ranks",
        run,
        "show how far weights are from low rank, and how far their outputs are",
        more="For every matrix W of a dense model: the effective rank of W, of its inputs and of "
        "its outputs, and what is lost of the outputs where L R has half of its numbers. Weights "
        "are nearly of full rank where outputs are not; blocks differ in what they can lose.",
        example="lrc ranks MODEL --calib text.txt --chart PICTURES",
    )
    add_model(parser, "dense model directory")
    parser.add_argument(
        "--calib", nargs="+", metavar="FILE", help="text (default: that ships with Python)"
    )
    parser.add_argument(
        "--nsamples", type=int, default=16, metavar="N", help="windows of text (default: 16)"
    )
    parser.add_argument(
        "--chart",
        type=Path,
        metavar="DIR",
        help="draw spectra and losses by depth there, as SVG; needs the extra report",
    )
    add_threads(parser)
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Show a line a matrix, or all numbers."""
    from lrc.allocation.spectra import spectra
    from lrc.base.threads import resolve_threads, single_threaded_blas
    from lrc.calibrate.examples import TextExamples
    from lrc.calibrate.mixture import calibration_windows
    from lrc.models.opened import open_original
    from lrc.models.speech import hears
    from lrc.run.text import Tokenizer
    from lrc.spec import CalibrationSpec

    if args.chart is not None:
        from lrc.cli.page.page import check_extra

        check_extra("--chart")
    threads = resolve_threads(args.threads)
    model, checkpoint = open_original(args.model)
    if hears(model):
        raise LrcError(f"{args.model} is a speech model; spectra are taken of models of text")
    files = tuple(args.calib or ())
    spec = CalibrationSpec(files, args.nsamples, shipped=0.0 if files else 1.0)
    with single_threaded_blas():
        text = calibration_windows(
            spec, Tokenizer.open(checkpoint.path), model,
            seed=0, threads=threads, progress=console.progress,
        )  # fmt: skip
        found = spectra(model, TextExamples(text.windows), threads, console.progress)
    if args.chart is not None:
        from lrc.cli.rank_charts import draw

        for path in draw(found, args.chart):
            console.progress.note(f"wrote {path}")
    if args.json:
        console.json({spectrum.name: spectrum.record() for spectrum in found})
        return
    console.line(_table([(of.name, of.record()) for of in found]))
    console.line("")
    console.line(_by_depth(found))


def _table(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    head = ("matrix", "shape", "rank of W", "of inputs", "of outputs", "loss at half")
    lines = [
        (
            name,
            "x".join(map(str, record["shape"])),
            *(number(record["effective_rank"][side]) for side in ("weights", "inputs", "outputs")),
            number(record["loss_at_half"]),
        )
        for name, record in rows
    ]
    return table(head, lines)


def _by_depth(found: Sequence[Spectrum]) -> str:
    """The mean loss of the first, middle and last third of the blocks."""
    blocks = max(of.block for of in found) + 1
    thirds: list[list[float]] = [[], [], []]
    for of in found:
        thirds[3 * of.block // blocks].append(of.loss_at_half)
    means = [sum(third) / len(third) if third else float("nan") for third in thirds]
    return "loss of outputs at half of the numbers, mean over the " + ", ".join(
        f"{where} third of the blocks {number(mean)}"
        for where, mean in zip(("first", "middle", "last"), means, strict=True)
    )
