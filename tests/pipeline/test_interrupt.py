"""Ctrl-C: one line, no half-written model, and the same command goes on to the same bytes."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import lrc.cli.main as cli
from lrc.base.progress import Advance, SilentProgress
from lrc.pipeline import job_manifest

Lrc = Callable[..., Any]


class Interrupting(SilentProgress):
    """Presses Ctrl-C when bars have moved ``ticks`` times in all."""

    def __init__(self, ticks: int) -> None:
        self.left = ticks

    @contextlib.contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Advance]:
        def advance(n: int = 1) -> None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

        yield advance


def digests(folder: Path) -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.iterdir())
        if file.name != "lrc-run.json"  # which has times in it
    }


# 15 steps: the embedding, then 7 matrices in each of 2 blocks.
@pytest.mark.parametrize("ticks", [1, 2, 8, 9, 15])
def test_an_interrupted_compression_goes_on_to_the_same_bytes(
    lrc: Lrc,
    model: Path,
    packed: Path,
    text: Path,
    fast: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ticks: int,
) -> None:
    out = tmp_path / "out"
    command = ("compress", model, "-o", out, "--calib", text, *fast)
    with monkeypatch.context() as patch:
        patch.setattr(cli, "NotesOnly", lambda _: Interrupting(ticks))
        outcome = lrc(*command)
    assert outcome.code == 130
    assert outcome.err.startswith("lrc: error: interrupted")
    assert outcome.err.count("\n") == 1
    assert not out.exists()
    lrc(*command).check()
    assert digests(out) == digests(packed)
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    "recipe",
    [
        ("--recipe", "lillama", "--rank", 6, "--distil", 1),
        ("--recipe", "lillama", "--keep", 0.8, "--distil", 1, "--ranks", "threshold"),
        ("--recipe", "rom", "--keep", 0.8, "--bias"),
        ("--recipe", "rom", "--keep", 0.6, "--bias", "--distil", 1),
    ],
    ids=lambda recipe: "".join(map(str, recipe)),
)
def test_what_runs_in_a_finished_block_is_read_again(
    lrc: Lrc, model: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    recipe: tuple[object, ...],
) -> None:  # fmt: skip
    """Stopped in the second block: factors that were learned, dense matrices, biases."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    quick = ("--nsamples", 6, "--seqlen", 64, "--threads", 1, "--quiet")
    options = ("--calib", text, *quick, *recipe)
    lrc("compress", model, "-o", whole, *options).check()
    with monkeypatch.context() as patch:
        patch.setattr(cli, "NotesOnly", lambda _: Interrupting(10))
        assert lrc("compress", model, "-o", out, *options).code == 130
    lrc("compress", model, "-o", out, *options).check()
    assert digests(out) == digests(whole)


def test_another_command_does_not_go_on_from_a_partial_run(
    lrc: Lrc,
    model: Path,
    text: Path,
    fast: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out, clean = tmp_path / "out", tmp_path / "clean"
    other = ("--calib", text, *fast, "--bits", 3)
    with monkeypatch.context() as patch:
        patch.setattr(cli, "NotesOnly", lambda _: Interrupting(9))
        assert lrc("compress", model, "-o", out, "--calib", text, *fast).code == 130
    lrc("compress", model, "-o", out, *other).check()
    lrc("compress", model, "-o", clean, *other).check()
    assert digests(out) == digests(clean)


def test_a_partial_run_of_another_format_is_begun_again(
    lrc: Lrc,
    model: Path,
    packed: Path,
    text: Path,
    fast: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    command = ("compress", model, "-o", tmp_path / "out", "--calib", text, *fast)
    with monkeypatch.context() as patch:
        patch.setattr(job_manifest, "FORMAT_VERSION", 0)
        patch.setattr(cli, "NotesOnly", lambda _: Interrupting(9))
        assert lrc(*command).code == 130
    outcome = lrc(*command).check()
    assert "continuing an interrupted run" not in outcome.err
    assert digests(tmp_path / "out") == digests(packed)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_control_c_in_a_terminal(model: Path, text: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lrc", "compress", model, "-o", tmp_path / "out", "--quiet"]
    options = ["--calib", text, "--seqlen", "256", "--threads", "2", "--iterations", "500"]
    with subprocess.Popen(
        [*map(str, command), *options, "--bits", "3"],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # A shell starts what runs in the background deaf to Ctrl-C.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("*/*.safetensors")) and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read()
        assert process.wait() == 130, said
    assert said.startswith("lrc: error: interrupted")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()
