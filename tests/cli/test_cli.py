"""The frame of the command: exit codes, streams, one line an error."""

from __future__ import annotations

import argparse
import errno
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import lrc
import lrc.cli.main as cli
from lrc.errors import FormatError


def run_with(monkeypatch: pytest.MonkeyPatch, run: Callable[..., Any]) -> int:
    """Run the command with one verb, ``try``, that calls ``run``."""

    def build() -> argparse.ArgumentParser:
        parser = argparse.ArgumentParser(prog="lrc")
        verb = parser.add_subparsers(required=True).add_parser("try")
        verb.set_defaults(run=run, quiet=True)
        return parser

    monkeypatch.setattr(cli, "build_parser", build)
    return cli.main(["try"])


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (FormatError("bad\n  file"), "lrc: error: bad file", 1),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.txt"), "lrc: error: a.txt: No such", 1),
        (OSError(errno.ENOSPC, "No space left on device"), "lrc: error: No space left", 1),
        (MemoryError(), "lrc: error: out of memory", 1),
        (KeyboardInterrupt(), "lrc: error: interrupted", 130),
        (RuntimeError("what"), "lrc: error: unexpected RuntimeError: what", 1),
    ],
)
def test_any_failure_is_one_line_and_a_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    line: str,
    code: int,
) -> None:
    def fail(args: argparse.Namespace, console: cli.StandardConsole) -> None:
        raise error

    monkeypatch.delenv("LRC_DEBUG", raising=False)
    assert run_with(monkeypatch, fail) == code
    captured = capsys.readouterr()
    assert captured.err.startswith(line)
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_debugging_shows_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(args: argparse.Namespace, console: cli.StandardConsole) -> None:
        raise FormatError("bad")

    monkeypatch.setenv("LRC_DEBUG", "1")
    assert run_with(monkeypatch, fail) == 1
    assert "Traceback" in capsys.readouterr().err


def test_a_warning_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def warn(args: argparse.Namespace, console: cli.StandardConsole) -> None:
        warnings.warn("kernels cannot be kept", RuntimeWarning, stacklevel=1)

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        assert run_with(monkeypatch, warn) == 0
    assert capsys.readouterr().err == "note: kernels cannot be kept\n"


def test_json_has_no_nan(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def show(args: argparse.Namespace, console: cli.StandardConsole) -> None:
        console.json({"a": float("nan"), "b": (1, float("inf"))})

    assert run_with(monkeypatch, show) == 0
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [1, None]}


@pytest.mark.parametrize("arguments", [(), ("fly",), ("compress",), ("eval", "m", "--score", "x")])
def test_wrong_usage_exits_with_two(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(list(arguments))
    assert exit_info.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_every_verb_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("compress", "eval", "generate", "inspect", "import-gguf", "export", "demo"):
        with pytest.raises(SystemExit) as exit_info:
            cli.main([verb, "--help"])
        assert exit_info.value.code == 0
        assert f"lrc {verb}" in capsys.readouterr().out


def test_every_option_explains_itself() -> None:
    frame = cli.build_parser()
    (verbs,) = (a for a in frame._actions if isinstance(a, argparse._SubParsersAction))
    for name, parser in verbs.choices.items():
        for action in parser._actions:
            text = (action.help or "").strip()
            assert text, f"{name} {action.dest} has no help"
            assert not text.startswith("("), f"{name} {action.dest}: {text}"


def test_module_and_version() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lrc", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"lrc {lrc.__version__}\n"


def test_bars_are_lines_on_standard_error_when_it_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    progress = cli.TqdmProgress()
    with progress.bar("working", 3, "piece") as advance:
        advance()
        advance(2)
    progress.note("a note")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "\r" not in captured.err
    assert "working: 3/3 piece" in captured.err
    assert captured.err.endswith("a note\n")


def test_the_time_left_is_that_of_steps_after_the_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.time", lambda: now)
    monkeypatch.setattr("tqdm.std.time", lambda: now)
    with cli.TqdmProgress().bar("working", 12, "piece") as advance:
        for seconds in (3600, 30):  # the first compiles
            now += seconds
            advance()
    shown = dict.fromkeys(re.findall("working: (.*) left", capsys.readouterr().err))
    assert list(shown) == ["0/12 piece, ?", "1/12 piece, ?", "2/12 piece, 05:00"]


def test_quiet_means_no_bars_but_notes(capsys: pytest.CaptureFixture[str]) -> None:
    progress = cli.StandardConsole(quiet=True).progress
    with progress.bar("working", 3, "piece") as advance:
        advance(3)
    progress.note("a note")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "a note\n")
    assert isinstance(cli.StandardConsole(quiet=False).progress, cli.TqdmProgress)


@pytest.mark.skipif(os.name == "nt", reason="pipes differ")
def test_a_reader_that_leaves_is_no_traceback() -> None:
    script = (
        "import sys, argparse, lrc.cli.main as cli\n"
        "def run(args, console):\n"
        "    for i in range(100000): console.line('x' * 80)\n"
        "def build():\n"
        "    parser = argparse.ArgumentParser()\n"
        "    parser.add_subparsers().add_parser('try').set_defaults(run=run, quiet=True)\n"
        "    return parser\n"
        "cli.build_parser = build\n"
        "sys.exit(cli.main(['try']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait() == 1
    assert errors == ""
