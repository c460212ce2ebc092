"""``lrc reproduce``."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from lrc.cli.commands.base import Console, SubParsers, add_json, add_threads, add_verb
from lrc.cli.portable import restart_portable
from lrc.errors import LrcError


def add(subparsers: SubParsers) -> None:
    """Add the verb."""
    parser = add_verb(
        subparsers,
        "reproduce",
        run,
        "compress a model again and compare the result, byte by byte",
        more="Everything is taken from the options and the seed that are stored in OUT; files of "
        "calibration text have to be where they were. Exits with 1 and names what differs, if "
        "anything does; what was made then stays in OUT.reproduced. An interrupted run goes on.",
        example="lrc reproduce OUT --original MODEL",
    )
    parser.add_argument("model", type=Path, metavar="OUT", help="compressed model directory")
    parser.add_argument(
        "--original", type=Path, metavar="MODEL",
        help="dense directory that it was made from (default: the model of the hub on record)",
    )  # fmt: skip
    add_threads(parser)
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Compress again, and fail where something differs."""
    from lrc.pipeline.reproduce import is_portable, reproduce

    if is_portable(args.model):
        restart_portable(args)
    found = reproduce(args.model, args.original, threads=args.threads, progress=console.progress)
    if args.json:
        again = None if found.again is None else str(found.again)
        console.json({**dataclasses.asdict(found), "path": str(found.path), "again": again})
    else:
        for note in found.notes:
            console.line(f"note: {note}")
        if not found.differences:
            console.line(f"{found.path}: made again, all {found.files} files and the report alike")
    if found.differences:
        raise LrcError(f"{found.path} is not what was made now: {'; '.join(found.differences)}")
