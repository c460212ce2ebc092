"""``lrc plan``."""

from __future__ import annotations

import argparse
from pathlib import Path

from lrc.cli.commands.base import Console, SubParsers, add_json, add_model, add_threads, add_verb
from lrc.cli.commands.effort_options import chosen
from lrc.cli.commands.limit_options import add_limit_options, forecast_for, memory_words
from lrc.cli.commands.spec_options import add_spec_options
from lrc.cli.forecast_tables import forecast_table, special_table
from lrc.errors import LrcError


def add(subparsers: SubParsers) -> None:
    """Add the verb."""
    parser = add_verb(
        subparsers,
        "plan",
        run,
        "say what a compression will take, before any work",
        more="Takes the options of lrc compress, and looks at the configuration and the headers of "
        "weights alone: bytes of the result (exact where ranks are numbers), bits a weight, peak "
        "memory, disk, minutes here by a probe of a second or two, and what of the model is "
        "treated in a way of its own. Limits that are out of reach are refused, as lrc compress "
        "does.",
        example="lrc plan MODEL --bits 4 --ram 4G",
    )
    add_model(parser, "Hugging Face directory with safetensors weights")
    parser.add_argument(
        "-o", "--out", type=Path, default=Path("."), metavar="DIR",
        help="where the result would go: its disk has to have room (default: here)",
    )  # fmt: skip
    add_spec_options(parser)
    add_limit_options(parser)
    add_threads(parser)
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Show the forecast."""
    from lrc.models.opened import open_original
    from lrc.pipeline.asked import check_asked

    spec, allocation = chosen(args, console)
    check_asked(open_original(args.model)[0], spec, allocation, args.survey)
    found = forecast_for(args, spec, allocation, args.out)
    if found is None:
        raise LrcError(f"{args.model} is a speech model; plans are of models of text")
    record = found.to_dict()
    if args.json:
        console.json({"model": str(args.model), "spec": spec.to_dict(), **record})
        return
    console.line(forecast_table(record))
    if args.ram is not None:
        console.line(f"within --ram by: {memory_words(record['memory'])}")
    console.line("")
    if record["special"]:
        console.line(special_table(record["special"]))
    else:
        console.line("no shape is treated in a way of its own")
