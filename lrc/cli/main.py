"""The command ``lrc``: parse, run one verb, print. The only file that prints."""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import io
import json
import os
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from lrc import __version__
from lrc.base.progress import Advance, NotesOnly, Progress
from lrc.cli.commands import (
    bench,
    chat,
    compress,
    convert,
    demo,
    evaluate,
    generate,
    imatrix,
    inspect,
    plan,
    publish,
    ranks,
    repair,
    report,
    reproduce,
    serve,
    transcribe,
    tune,
    verify,
)
from lrc.cli.tables import json_ready
from lrc.errors import LrcError

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130


class TqdmProgress:
    """Bars with the time left, on standard error.

    The first step of a stage says nothing of the others: it compiles, or stands for all that an
    earlier run has done. So the time left is that of the mean step since then.
    """

    @contextlib.contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Advance]:
        """Show one bar; where standard error is no terminal, a line every ten seconds."""
        from tqdm import tqdm

        live = sys.stderr.isatty()
        with tqdm(
            total=total,
            desc=description,
            unit=" " + unit,
            file=sys.stderr if live else _Lines(),
            dynamic_ncols=live,
            bar_format=None if live else "{desc}: {n_fmt}/{total_fmt}{unit}, {remaining} left",
            mininterval=0.1 if live else 10.0,
            maxinterval=10.0,
            smoothing=0,
        ) as shown:

            def advance(n: int = 1) -> None:
                if first := shown.n == 0:
                    shown.initial = n
                shown.update(n)
                if first:
                    shown.start_t = shown.last_print_t = time.time()

            yield advance

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        from tqdm import tqdm

        tqdm.write(text, file=sys.stderr)


class _Lines:
    """Turns a bar that is redrawn in place into lines of its own."""

    def write(self, text: str) -> None:
        text = text.strip("\r\n ")
        if text:
            print(text, file=sys.stderr, flush=True)

    def flush(self) -> None:
        sys.stderr.flush()


class StandardConsole:
    """Standard output for results, standard error for progress."""

    def __init__(self, *, quiet: bool) -> None:
        bars = TqdmProgress()
        self.progress: Progress = NotesOnly(bars) if quiet else bars

    def line(self, text: str) -> None:
        """Print a line."""
        print(text)

    def stream(self, text: str) -> None:
        """Print a piece at once."""
        print(text, end="", flush=True)

    def json(self, value: Any) -> None:
        """Print a JSON document that any parser reads: no NaN, no infinity."""
        print(json.dumps(json_ready(value), indent=2, ensure_ascii=False, allow_nan=False))

    def read(self, prompt: str) -> str:
        """Read a line; with a history where the platform has one."""
        if sys.stdin is None:
            raise EOFError
        with contextlib.suppress(ImportError):
            importlib.import_module("readline")
        return input(prompt if sys.stdin.isatty() else "")


def build_parser() -> argparse.ArgumentParser:
    """Build the whole command line."""
    parser = argparse.ArgumentParser(
        prog="lrc",
        description="Compress language models to 2-4 bits a weight, and run them.",
        epilog="New here? lrc demo shows it all on a small model. lrc VERB --help tells the rest.",
    )
    parser.add_argument("--version", action="version", version=f"lrc {__version__}")
    subparsers = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    for verb in (
        *(demo, plan, compress, tune, evaluate, generate, chat, serve, transcribe),
        *(bench, inspect, verify, reproduce, report, publish, ranks, convert, repair, imatrix),
    ):
        verb.add(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    int
        Exit code: 0, 1 for an error, 130 when interrupted. Wrong usage exits with 2.
    """
    args = build_parser().parse_args(argv)
    args.is_process = argv is None
    _tolerant_streams()
    if args.quiet:  # read when the hub's library is first needed
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        console = StandardConsole(quiet=args.quiet)
        with _warnings_as_notes(console.progress):
            args.run(args, console)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader of our output left, as in `lrc inspect MODEL | head`.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except KeyboardInterrupt as stop:
        return _fail(_with_notes(str(stop) or "interrupted", stop), EXIT_INTERRUPTED)
    except Exception as error:
        return _fail(describe(error), EXIT_ERROR)
    return 0


@contextlib.contextmanager
def _warnings_as_notes(progress: Progress) -> Iterator[None]:
    """Tell of warnings in one line each, without the place in the code."""

    def tell(message: Warning | str, *_: object, **__: object) -> None:
        progress.note(f"note: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = tell
        yield


def describe(error: Exception) -> str:
    """One line for any error: what happened and, where it is known, what to do."""
    if isinstance(error, LrcError):
        text = str(error)
    elif isinstance(error, MemoryError):
        text = "out of memory; close other programs, or use fewer --threads"
    elif isinstance(error, OSError):
        text = _describe_os_error(error)
    else:
        text = (
            f"unexpected {type(error).__name__}: {error}; "
            "this is a bug: set LRC_DEBUG=1 to see where"
        )
    return _with_notes(text, error)


def _with_notes(text: str, error: BaseException) -> str:
    """One line of ``text`` and what was noted on its way, as of finished work that stays."""
    return " ".join("; ".join([text, *getattr(error, "__notes__", ())]).split())


def _describe_os_error(error: OSError) -> str:
    reason = error.strerror or str(error)
    where = f"{error.filename}: " if error.filename is not None else ""
    remedy = "; free some space and try again" if error.errno == errno.ENOSPC else ""
    return f"{where}{reason}{remedy}"


def _fail(message: str, code: int) -> int:
    if os.environ.get("LRC_DEBUG") == "1":
        traceback.print_exc()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    print(f"lrc: error: {message}", file=sys.stderr)
    return code


def _tolerant_streams() -> None:
    """Replace characters that the terminal's encoding lacks rather than fail on them."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            with contextlib.suppress(io.UnsupportedOperation):  # it has been read from
                reconfigure(errors="replace")
