"""What a verb is given: where its output goes, and the arguments that verbs share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from lrc.base.progress import Progress
from lrc.errors import LrcError

if TYPE_CHECKING:
    from lrc.models.adapted import Adapter
    from lrc.run.load import LoadedModel


class Console(Protocol):
    """Where a verb writes; only :mod:`lrc.cli.main` implements it with real streams."""

    @property
    def progress(self) -> Progress:
        """Bars and notes, on the error stream."""
        ...

    def line(self, text: str) -> None:
        """Write one line, or a table, to standard output."""
        ...

    def stream(self, text: str) -> None:
        """Write a piece of text to standard output at once, without a line end."""
        ...

    def json(self, value: Any) -> None:
        """Write one JSON document to standard output."""
        ...

    def read(self, prompt: str) -> str:
        """Read a line from standard input, prompting a terminal; EOFError at its end."""
        ...


#: Runs a verb with its parsed arguments.
Run = Callable[[argparse.Namespace, Console], None]
#: What ``ArgumentParser.add_subparsers`` returns.
SubParsers = Any


def add_verb(
    subparsers: SubParsers, name: str, run: Run, text: str, *, more: str = "", example: str = ""
) -> argparse.ArgumentParser:
    """Add a sub-command that calls ``run``.

    Parameters
    ----------
    subparsers, name, run
        Where to, as what, and what it does.
    text
        Both its help line and the first sentence of its description.
    more
        The rest of the description.
    example
        A command line, shown last.
    """
    parser: argparse.ArgumentParser = subparsers.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}. {more}".strip(),
        epilog=f"example: {example}" if example else None,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--quiet", action="store_true", help="no progress bars; one-line notes stay"
    )
    return parser


def add_model(parser: argparse.ArgumentParser, help_text: str) -> None:
    """Add the positional MODEL."""
    also = "; or ORG/NAME, a model on the Hugging Face hub"
    parser.add_argument("model", type=Path, metavar="MODEL", help=help_text + also)


def load_and_tell(
    path: Path, console: Console, adapters: Sequence[tuple[Adapter, float]] = ()
) -> LoadedModel:
    """Open a model directory with adapters, and tell what in it is not read."""
    from lrc.run.load import load

    loaded = load(path, adapters)
    for note in loaded.model.notes:
        console.progress.note(f"{path}: {note}")
    return loaded


def add_out(parser: argparse.ArgumentParser) -> None:
    """Add the required ``-o DIR``."""
    parser.add_argument(
        "-o", "--out", type=Path, required=True, metavar="DIR", help="directory to create"
    )


def within_context(
    option: str, asked: int | None, usual: int, available: int, console: Console
) -> int:
    """A number of tokens: as asked for, else as usual, or as many as there is room for.

    Raises
    ------
    LrcError
        More are asked for than there is room for, or there is none.
    """
    if available < 1 or (asked is not None and asked > available):
        given = f"{option} {usual if asked is None else asked}"
        left = (
            f"which has room for {available} here; lower it"
            if available > 0
            else "which is used up"
        )
        raise LrcError(f"{given} exceeds the model's context, {left}")
    if asked is None and available < usual:
        console.progress.note(f"{option} {available}: the model's context has no room for {usual}")
    return min(usual, available) if asked is None else asked


def add_activations(parser: argparse.ArgumentParser) -> None:
    """Add ``--activations``, of what makes a text token by token."""
    parser.add_argument(
        "--activations",
        choices=("i8", "i15", "f32"),
        default="i8",
        help="what a compressed model multiplies with: integers of 8 bits where those will do, of "
        "15 bits, or exact and slower floats (default: i8)",
    )


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add ``--threads``."""
    parser.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="threads to use (default: every processor); results do not depend on it",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
