"""``lrc report``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from lrc.cli.commands.base import Console, SubParsers, add_verb
from lrc.cli.page.shareable import base_name
from lrc.errors import LrcError
from lrc.formats.hub import hub_name, model_name

if TYPE_CHECKING:
    from lrc.cli.page.page import Output
    from lrc.cli.page.peer import Peer


def add(subparsers: SubParsers) -> None:
    """Add the verb."""
    parser = add_verb(
        subparsers,
        "report",
        run,
        "write a page of what a compression did",
        more="One HTML file that loads nothing: sizes, quality, errors and ranks by block, what "
        "was chosen and why, warnings, and how to do it again. Quality is there once lrc eval "
        "--keep has measured it. Needs the extra report.",
        example="lrc report OUT --compare OTHER1 OTHER2 -o page.html",
    )
    parser.add_argument(
        "model", type=Path, nargs="?", metavar="OUT", help="compressed model directory"
    )
    parser.add_argument(
        "-o", "--out", type=Path, metavar="FILE.html",
        help="page to write (default: OUT.html, beside OUT)",
    )  # fmt: skip
    parser.add_argument(
        "--compare", type=Path, nargs="+", default=[], metavar="DIR|FILE.json",
        help="draw quality against size of these (and of OUT): compressed models, or what lrc eval "
        "--json has written of others; what was measured on the same is drawn together",
    )  # fmt: skip


def run(args: argparse.Namespace, console: Console) -> None:
    """Write the page."""
    from lrc.base.atomic import atomic_write_bytes
    from lrc.cli.page.page import GENERATOR, Output, check_extra, render

    check_extra()
    if args.model is None and len(args.compare) < 2:
        raise LrcError("there is nothing to report on; give OUT, or --compare with two or more")
    page = args.out or _beside(args.model)
    if page.is_dir() or (page.exists() and GENERATOR.encode() not in _start(page)):
        raise LrcError(f"{page} exists and is no page of lrc report; give another name with -o")
    own = None if args.model is None else Output.open(args.model)
    text = render(own, [_compared(path) for path in args.compare])
    atomic_write_bytes(page, text.encode())
    console.line(f"wrote {page}")


def _compared(path: Path) -> Output | Peer:
    from lrc.cli.page.page import Output
    from lrc.cli.page.peer import Peer

    return Peer.open(path) if path.suffix == ".json" else Output.open(path)


def _beside(model: Path | None) -> Path:
    if model is None:
        return Path("comparison.html")
    name = f"{base_name(model_name(model))}.html"
    return Path(name) if hub_name(model) or not model.name else model.with_name(name)


def _start(page: Path) -> bytes:
    with page.open("rb") as file:
        return file.read(1024)
