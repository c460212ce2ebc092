"""Whose a partial directory is: writers that die at any step, or fail."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import dying
import pytest
import simulated_disk
from dying import EVERYTHING, give_up, make, names, pieces, steps

from lrc.base import lock, partial
from lrc.base.atomic import OutputError, atomic_directory
from lrc.base.partial import MARKER

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and flock")


def fail_to_rename(work: Callable[[], object]) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    os.rename = refuse  # in a fork
    work()


@pytest.mark.parametrize("job", ["", "job"])
def test_a_writer_that_dies_at_any_step_leaves_the_next_one_a_clean_start(
    tmp_path: Path, job: str
) -> None:
    def die(step: int) -> int:
        folder = tmp_path / str(step)
        folder.mkdir()
        out, kept = folder / "out", folder / "out.partial"
        code = dying.killed_at(step, lambda: make(out, job), folder)
        done = {p.name: p.stat().st_ino for p in kept.glob("piece-*") if not p.suffix}
        if not out.exists():
            make(out, job)
            if job:  # what was finished is the same file still
                assert {n: (out / n).stat().st_ino for n in done} == done, step
        else:
            assert not kept.exists(), step
        # Whoever dies between the last two steps leaves a model that is whole, and the marker.
        assert set(names(out)) - {MARKER} == {*EVERYTHING}, step
        assert names(folder) == ["out"], step
        return code

    assert steps(die) > 20


def test_a_writer_that_dies_while_it_replaces_another_job_never_mixes_the_two(
    tmp_path: Path,
) -> None:
    def die(step: int) -> int:
        folder = tmp_path / str(step)
        folder.mkdir()
        out = folder / "out"
        dying.fork(lambda: fail_to_rename(lambda: make(out, "old", "old")))
        assert names(folder / "out.partial") == sorted([MARKER, *EVERYTHING])
        code = dying.killed_at(step, lambda: make(out, "new", "new"), folder)
        if not out.exists():
            make(out, "old", "old")  # finds all of its pieces, or none
            assert {p.read_text() for p in out.glob("piece-*")} == {"old"}, step
        assert set(names(out)) - {MARKER} == {*EVERYTHING}, step
        return code

    assert steps(die) > 20


def test_a_writer_that_gives_up_and_dies_at_any_step_is_not_in_the_way(tmp_path: Path) -> None:
    def die(step: int) -> int:
        folder = tmp_path / str(step)
        folder.mkdir()
        code = dying.killed_at(step, lambda: give_up(folder / "out"), folder)
        make(folder / "out", "")
        assert names(folder) == ["out"], step
        assert names(folder / "out") == EVERYTHING, step
        return int(code == dying.KILLED)

    assert steps(die) > 10


def test_a_failed_writer_keeps_its_hands_off_what_is_no_longer_its_own(tmp_path: Path) -> None:
    out, kept = tmp_path / "out", tmp_path / "out.partial"

    def lose_it() -> None:
        with atomic_directory(out):
            kept.rename(tmp_path / "moved")
            kept.mkdir()
            (kept / "precious").write_text("mine")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        lose_it()
    assert names(kept) == ["precious"]


def test_a_stranger_that_fills_a_directory_while_it_is_claimed_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = lock.LockedFile.take

    def meanwhile(path: Path) -> lock.LockedFile:
        (path.parent / "precious").write_text("mine")
        return take(path)

    monkeypatch.setattr(partial.LockedFile, "take", meanwhile)
    with pytest.raises(OutputError, match="in the way"), atomic_directory(tmp_path / "out"):
        pytest.fail("the body must not run")
    assert names(tmp_path / "out.partial") == ["precious"]


def test_output_that_someone_made_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(OutputError, match="exists already"), atomic_directory(out):
        out.mkdir()
    assert names(tmp_path) == ["out"]
    assert names(out) == []


def test_where_there_are_no_locks_nothing_of_another_run_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    out = tmp_path / "out"
    assert dying.killed_at(20, lambda: make(out, "old"), tmp_path) == dying.KILLED
    before = names(tmp_path / "out.partial")
    assert "piece-0" in before
    monkeypatch.setattr(lock.fcntl, "flock", no_locks)
    with pytest.raises(OutputError, match="remove the directory if it has"):
        make(out, "new")
    assert names(tmp_path / "out.partial") == before
    make(out, "old")
    assert names(out) == EVERYTHING


def test_another_jobs_work_is_not_replaced_in_silence(tmp_path: Path) -> None:
    assert dying.killed_at(20, lambda: make(tmp_path / "out", "old"), tmp_path) == dying.KILLED
    said: list[str] = []
    with atomic_directory(tmp_path / "out", fingerprint="new", tell=said.append):
        pass
    assert len(said) == 1
    assert "it is replaced" in said[0]


@pytest.mark.parametrize("error", [ValueError("no"), MemoryError(), KeyboardInterrupt()])
@pytest.mark.parametrize("count", [0, 1, 2])
def test_whatever_fails_what_is_finished_stays(
    tmp_path: Path, error: BaseException, count: int
) -> None:
    def fail() -> None:
        with atomic_directory(tmp_path / "out", fingerprint="job", finished=pieces) as work:
            for i in range(count):
                (work / f"piece-{i}").write_text("x")
            raise error

    with pytest.raises(type(error)) as caught:
        fail()
    notes = getattr(caught.value, "__notes__", [])
    if not count:
        assert names(tmp_path) == []
        assert notes == []
        return
    assert pieces(tmp_path / "out.partial") == count
    files = {1: "the 1 finished file;", 2: "the 2 finished files;"}[count]
    assert files in notes[-1]
    make(tmp_path / "out", "job")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == EVERYTHING


def test_everything_is_on_disk_before_the_output_appears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[int] = set()
    seen: list[set[int]] = []
    fsync, rename = os.fsync, os.rename

    def sync(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def move(source: Path, target: Path) -> None:
        below = [source, *source.rglob("*")]
        seen.append({path.stat().st_ino for path in below if path.name != MARKER} - synced)
        synced.clear()
        rename(source, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "rename", move)
    with atomic_directory(tmp_path / "out") as work:
        (work / "sub").mkdir()
        (work / "sub" / "x").write_text("1")
        (work / "y").write_text("1")
        synced.clear()
    assert seen == [set()]
    assert tmp_path.stat().st_ino in synced


def test_after_a_power_cut_at_its_end_a_directory_is_whole_or_can_be_had(tmp_path: Path) -> None:
    """The new name is on disk before the marker goes from it."""
    cuts = 0
    for seed in range(12):
        for step in range(1, dying.MOST_STEPS):
            root = tmp_path / f"{seed}-{step}"
            folder, out = root / "x.partial", root / "x"
            folder.mkdir(parents=True)
            for name in (MARKER, "a"):
                (folder / name).write_bytes(b"job")
            claimed = partial.PartialDirectory.claim(folder, "job", lambda _: None)
            code = simulated_disk.cut_at(step, partial_become(claimed, out), root, seed)
            claimed.close()
            if not out.exists():
                again = partial.PartialDirectory.claim(folder, "job", lambda _: None)
                again.become(out)
                again.close()
            assert names(root) == ["x"], (seed, step)
            assert set(names(out)) - {MARKER} == {"a"}, (seed, step)
            if code != dying.KILLED:
                break
            cuts += 1
    assert cuts > 12


def partial_become(claimed: partial.PartialDirectory, out: Path) -> Callable[[], object]:
    return lambda: claimed.become(out)


def test_after_a_power_cut_while_it_is_discarded_the_next_one_can_have_it(tmp_path: Path) -> None:
    """Files are never left there without the marker, which would be in everybody's way."""
    cuts = 0
    for seed in range(6):
        for step in range(1, dying.MOST_STEPS):
            root = tmp_path / f"{seed}-{step}"
            folder = root / "x.partial"
            (folder / "sub").mkdir(parents=True)
            for name in (MARKER, "a", "sub/b"):
                (folder / name).write_bytes(b"job")
            claimed = partial.PartialDirectory.claim(folder, "job", lambda _: None)
            claimed._marker.write(b"discarded\n")
            code = simulated_disk.cut_at(step, claimed.discard, root, seed)
            claimed.close()
            partial.PartialDirectory.claim(folder, "other", lambda _: None).discard()
            assert names(root) == [], (seed, step)
            if code != dying.KILLED:
                break
            cuts += 1
    assert cuts > 6 * 5


def test_a_marker_that_was_half_overwritten_is_nobodys_name(tmp_path: Path) -> None:
    """As a writer leaves it that dies before it is cut to its new length."""
    folder, told = tmp_path / "x.partial", list[str]()
    folder.mkdir()
    (folder / MARKER).write_bytes(b"discarded\nabcdef")
    (folder / "a").write_bytes(b"x")
    partial.PartialDirectory.claim(folder, "other", told.append).discard()
    assert (told, names(tmp_path)) == ([], [])
