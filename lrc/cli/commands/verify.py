"""``lrc verify``."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from lrc.cli.commands.base import Console, SubParsers, add_json, add_threads, add_verb
from lrc.cli.sample_text import SAMPLE_NAME, given_text
from lrc.cli.tables import MISSING, number, table, with_error
from lrc.errors import LrcError

if TYPE_CHECKING:
    from lrc.pipeline.certificate import Certificate, HeldOutError
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
        "and compared with those on record; ||W - W'||_2 is a proven upper bound. On held-out text "
        "sqrt(sum |(W - W') x|^2 / sum |W x|^2) is taken with its standard error, x the inputs in "
        "the original model, beside what CALDERA's theorem gives for W and x. Exits with 1 "
        "and names what differs, if anything does.",
        example="lrc verify OUT --original MODEL",
    )
    parser.add_argument("model", type=Path, metavar="OUT", help="compressed model directory")
    parser.add_argument(
        "--original", type=Path, metavar="MODEL", help="dense directory that it was made from"
    )
    parser.add_argument(
        "--text", type=Path, metavar="FILE",
        help=f"held-out text, with --original (default: {SAMPLE_NAME})",
    )  # fmt: skip
    add_threads(parser)
    add_json(parser)


def run(args: argparse.Namespace, console: Console) -> None:
    """Look at everything, show what was found, and fail where something differs."""
    from lrc.pipeline.verify import require_same, verify

    if args.text is not None and args.original is None:
        raise LrcError("--text is of errors against the original: give --original MODEL as well")
    text = None if args.original is None else given_text(args.text)
    found = verify(
        args.model, args.original, text=text, threads=args.threads, progress=console.progress
    )
    if found.certificate is not None and _calibrated_on(args.model, args.text):
        seen = f"{args.text} is text that it was calibrated on: nothing here is held out"
        found = dataclasses.replace(found, notes=(*found.notes, seen))
    if args.json:
        console.json({**dataclasses.asdict(found), "path": str(found.path)})
    else:
        if found.errors:
            console.line(_table(found.errors, found.certificate))
            console.line("")
            for line in _legend(found.certificate, args.text):
                console.line(line)
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


def _table(errors: dict[str, MatrixError], certificate: Certificate | None) -> str:
    """A line a matrix; theory's bounds are of held-out text where there was some."""
    head = ["matrix", "||E||_F/||W||_F", "on record", "||E||_2 <=", "||E||_F", "error of outputs"]
    held_out = {} if certificate is None else certificate.matrices
    theory = any(error.caldera_bound is not None for error in errors.values())
    rows = []
    for name, error in errors.items():
        figures = (
            error.frobenius_error, error.recorded, error.spectral_bound, error.frobenius_norm,
            error.relative_error,
        )  # fmt: skip
        row = [name, *map(number, figures)]
        if certificate is not None:
            row += _held_out(held_out.get(name))
        elif theory:
            row.append(number(error.caldera_bound))
        rows.append(row)
    if certificate is not None:
        head += ["held-out text", "theory there"]
        rows.append(["all together", *[""] * 5, *_held_out(certificate.whole)])
    elif theory:
        head.append("theory")
    return table(head, rows)


def _legend(certificate: Certificate | None, text: Path | None) -> list[str]:
    """What the columns are."""
    lines = [
        "E = W - W', of the original and what is stored; on record: ||E||_F/||W||_F in the report",
        "||E||_2 <=: a proven bound of what E does to any input of length 1",
        "error of outputs: |E x|/|W x| over the inputs x of the calibration, as on record",
    ]
    if certificate is None:
        return lines
    return [
        *lines,
        f"held-out text: the same over {certificate.windows} windows of {certificate.window_tokens}"
        f" tokens of {text or SAMPLE_NAME}, ± its standard error",
        "theory there: what CALDERA's theorem allows it to be; from 1 on that says nothing",
    ]


def _held_out(found: HeldOutError | None) -> tuple[str, str]:
    """Error and theory; of embedding and head there is none."""
    if found is None:
        return MISSING, MISSING
    return with_error(found.relative_error, found.stderr), number(found.theory)


def _calibrated_on(model: Path, text: Path | None) -> bool:
    """Whether a compressed model's report names the file among those of its calibration."""
    if text is None:
        return False
    from lrc.formats.hub import local_model
    from lrc.parts.manifest import read_manifest

    files = read_manifest(local_model(model)).get("calibration", {}).get("files", [])
    return text.resolve() in {Path(of["file"]).resolve() for of in files}
