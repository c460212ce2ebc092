"""``lrc verify``."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from lrc.cli.commands.base import Console, SubParsers, add_json, add_verb
from lrc.cli.tables import number, table

if TYPE_CHECKING:
    from lrc.pipeline.verify import MatrixError


def add(subparsers: SubParsers) -> None:
    """Add the verb."""
    parser = add_verb(
        subparsers,
        "verify",
        run,
        "check that a compressed model is what was written",
        more="Every file is compared with its checksum, and every stored value with what it may "
        "be. With the original, the errors of all matrices are computed anew from what is on disk "
        "and compared with those on record; ||W - W'||_2 is a proven upper bound. Exits with 1 and "
        "names what differs, if anything does.",
        example="lrc verify OUT --original MODEL",
    )
    parser.add_argument("model", type=Path, metavar="OUT", help="compressed model directory")
    parser.add_argument(
        "--original", type=Path, metavar="MODEL", help="dense directory that it was made from"
    )
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Look at everything, show what was found, and fail where something differs."""
    from lrc.pipeline.verify import require_same, verify

    found = verify(args.model, args.original, progress=console.progress)
    if args.json:
        console.json({**dataclasses.asdict(found), "path": str(found.path)})
    else:
        if found.errors:
            console.line(_table(found.errors))
            console.line("")
        for note in found.notes:
            console.line(f"note: {note}")
        if not found.differences:
            checked = (
                "all checksums match" if found.has_checksums else "there are no checksums to match"
            )
            console.line(
                f"{found.path}: {found.files} files, {found.matrices} matrices; {checked}, all "
                "values are in their ranges"
                + (", all errors are those on record" if _compared(found.errors) else "")
            )
    require_same(found)


def _compared(errors: dict[str, MatrixError]) -> bool:
    """Whether there are errors, and each is on record."""
    return bool(errors) and all(error.recorded is not None for error in errors.values())


def _table(errors: dict[str, MatrixError]) -> str:
    """A line a matrix; a column of theory's bounds where there is any."""
    theory = any(error.caldera_bound is not None for error in errors.values())
    head = ["matrix", "||E||_F/||W||_F", "on record", "||E||_2 <=", "||E||_F", "error of outputs"]
    rows = [
        [
            name,
            number(error.frobenius_error),
            number(error.recorded),
            number(error.spectral_bound),
            number(error.frobenius_norm),
            number(error.relative_error),
            *([number(error.caldera_bound)] if theory else []),
        ]
        for name, error in errors.items()
    ]
    return table(head + (["theory"] if theory else []), rows)
