"""What programs that embed the library hear: calls, and lines of the logger."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

import lrc
from lrc.base.progress import SILENT, NotesOnly, ProgressCallback


def test_calls_are_in_order_and_sum_up() -> None:
    told: list[tuple[object, ...]] = []
    progress = lrc.ProgressCallback(
        lambda *step: told.append(step), lambda text: told.append((text,))
    )
    with progress.bar("a", 5, "block") as advance:
        advance()
        progress.note("n")
        advance(4)
    assert told == [("a", 0, 5, "block"), ("a", 1, 5, "block"), ("n",), ("a", 5, 5, "block")]


def test_what_a_callback_raises_ends_the_job() -> None:
    class StopError(Exception):
        pass

    def stop(stage: str, done: int, total: int, unit: str) -> None:
        if done:
            raise StopError

    with pytest.raises(StopError), ProgressCallback(stop).bar("a", 2, "block") as advance:
        advance()


@pytest.mark.parametrize(
    "progress", [SILENT, NotesOnly(SILENT), ProgressCallback(lambda *step: None)]
)
def test_notes_that_nobody_asked_for_are_logged(progress, caplog) -> None:
    with caplog.at_level(logging.INFO, "lrc"):
        progress.note("few tokens: 100 %")
        with progress.bar("stage", 3, "block"):
            pass
    assert [record.name for record in caplog.records] == ["lrc"] * 2
    assert caplog.messages[0] == "few tokens: 100 %"
    assert caplog.messages[1].startswith("stage: 3 x block in")


def test_a_stage_that_fails_is_not_said_to_be_done(caplog) -> None:
    with caplog.at_level(logging.INFO, "lrc"), pytest.raises(ValueError), SILENT.bar("a", 1, "b"):
        raise ValueError
    assert caplog.messages == []


def test_a_program_that_configures_nothing_sees_nothing() -> None:
    code = "from lrc.base.progress import SILENT, LOG; SILENT.note('x'); LOG.warning('y')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
