"""Two writers of one output: one wins, and neither harms the other, whenever they meet."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from pathlib import Path

import dying
import pytest
from dying import EVERYTHING, give_up, make, names, steps

from lrc.base.atomic import atomic_directory, atomic_write_bytes

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and flock")


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("job", ["", "job"])
@pytest.mark.parametrize("other", ["", "job"])
def test_two_writers_that_meet_at_any_step_do_not_harm_each_other(
    tmp_path: Path, job: str, other: str
) -> None:
    def meet(step: int) -> int:
        folder = tmp_path / str(step)
        folder.mkdir()
        out, note = folder / "out", folder.parent / f"{step}.note"

        def second() -> None:
            code = dying.fork(lambda: make(out, other, "second"))
            note.write_text(str(code))

        first = dying.fork(
            lambda: dying.at_step(step, second, lambda: make(out, job, "first"), str(folder))
        )
        if not note.exists():
            assert first == 0
            return 0
        codes = first, int(note.read_text())
        assert sorted(codes) == [0, dying.FAILED], (step, codes)
        winner = "first" if first == 0 else "second"
        assert {p.read_text() for p in out.glob("piece-*")} == {winner}, step
        assert names(out) == EVERYTHING, step
        assert names(folder) == ["out"], step
        return 1

    assert steps(meet) > 20


@pytest.mark.parametrize("slow", [False, True])
def test_a_writer_that_gives_up_and_meets_another_at_any_step_does_not_harm_it(
    tmp_path: Path, slow: bool
) -> None:
    def meet(step: int) -> int:
        folder = tmp_path / str(step)
        folder.mkdir()
        out, note = folder / "out", tmp_path / f"{step}.note"
        inside, go_on = tmp_path / f"{step}.inside", tmp_path / f"{step}.go_on"

        def write() -> None:
            with atomic_directory(out) as work:
                inside.touch()
                if slow:  # the first goes on and ends meanwhile
                    until(go_on.exists)
                for piece in EVERYTHING:
                    (work / piece).write_text("second")

        def second() -> None:
            dying.start(lambda: atomic_write_bytes(note, str(dying.fork(write)).encode()))
            until((lambda: inside.exists() or note.exists()) if slow else note.exists)

        dying.fork(lambda: dying.at_step(step, second, lambda: give_up(out), str(folder)))
        if not (inside.exists() or note.exists()):
            return 0
        go_on.touch()
        until(note.exists)
        assert note.read_text() == ("0" if inside.exists() else str(dying.FAILED)), step
        assert names(folder) == (["out"] if inside.exists() else []), step
        assert not inside.exists() or names(out) == EVERYTHING, step
        return 1

    assert steps(meet) > 10


def test_writers_that_start_together(tmp_path: Path) -> None:
    """Real processes, released at once, again and again."""
    for turn in range(30):
        out = tmp_path / str(turn) / "out"
        out.parent.mkdir()
        read, write = os.pipe()

        def wait_and_make(text: str, r: int = read, w: int = write, out: Path = out) -> None:
            os.close(w)
            os.read(r, 1)  # returns once the last write end is closed
            make(out, "", text)

        writers = [dying.start(functools.partial(wait_and_make, text)) for text in "abc"]
        os.close(write)
        found = [dying.wait(writer) for writer in writers]
        os.close(read)
        assert sorted(found) == [0, dying.FAILED, dying.FAILED]
        assert names(out.parent) == ["out"]
        assert len({p.read_text() for p in out.iterdir()}) == 1


def test_one_file_written_by_two_is_one_of_both(tmp_path: Path) -> None:
    def meet(step: int) -> int:
        path, note = tmp_path / f"f{step}", tmp_path / f"{step}.note"

        def second() -> None:
            note.write_text(str(dying.fork(lambda: atomic_write_bytes(path, b"second"))))

        first = dying.fork(
            lambda: dying.at_step(step, second, lambda: atomic_write_bytes(path, b"first"), "f")
        )
        if not note.exists():
            return 0
        possible = [
            text
            for text, code in ((b"first", first), (b"second", int(note.read_text())))
            if code == 0
        ]
        assert path.read_bytes() in possible
        assert not list(tmp_path.glob("*.partial"))
        return 1

    assert steps(meet) > 4
