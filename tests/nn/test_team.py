"""Helpers do each item once, pass errors on, and hold what they work on, no longer."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
from waiting import eventually

from lrc.errors import SpecError
from lrc.nn.engine.team import Team

counts = pytest.mark.parametrize("threads", [1, 2, 4])


@counts
@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_every_item_is_done_once(threads, count):
    done = []
    Team(threads).each(done.append, range(count))
    assert sorted(done) == list(range(count))


@counts
def test_the_first_of_the_errors_is_raised(threads):
    def fail(item):
        if item > 2:
            raise OSError(item)

    team = Team(threads)
    with pytest.raises(OSError, match="3"):
        team.each(fail, range(6))
    done = []
    team.each(done.append, range(6))
    assert len(done) == 6


def test_helpers_work_beside_the_caller():
    both = threading.Barrier(2, timeout=20)
    Team(2).each(lambda _: both.wait(), range(2))


def test_an_interrupted_caller_leaves_at_once_and_may_go_on():
    caller, team, slow = threading.get_ident(), Team(2), threading.Event()

    def work(item):
        if threading.get_ident() == caller:
            raise KeyboardInterrupt
        slow.wait(20)

    with pytest.raises(KeyboardInterrupt):
        team.each(work, range(2))
    slow.set()
    done = []
    team.each(done.append, range(3))
    assert sorted(done) == [0, 1, 2]


def test_helpers_end_with_their_team():
    before = set(threading.enumerate())
    team = Team(3)
    helpers = set(threading.enumerate()) - before
    assert len(helpers) == 2
    del team
    assert eventually(lambda: not any(helper.is_alive() for helper in helpers))


class Held:
    """Something that a share works on."""


@pytest.mark.parametrize("interrupted", [False, True])
def test_what_helpers_work_on_lives_as_long_as_they_do(interrupted):
    team, free, held = Team(2), threading.Event(), Held()
    alive = weakref.ref(held)

    def make(held):
        def task(place, thread, threads):
            if thread == 0 and interrupted:
                raise KeyboardInterrupt
            if thread == 1:
                free.wait(20)
            return held is not None

        return task

    task = make(held)
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            team.call(task)
    else:
        assert team.call(task)
    del held, task
    gc.collect()
    assert alive() is not None
    free.set()
    assert eventually(lambda: alive() is None)


def test_a_helper_that_fails_is_reported_and_its_share_done_here(monkeypatch):
    told, calls = [], []
    monkeypatch.setattr(threading, "excepthook", told.append)

    def task(place, thread, threads):
        if thread == 1:
            raise MemoryError
        calls.append(threads)
        return threads == 1

    team = Team(2)
    assert not team.call(task)
    assert calls == [2, 1]
    assert eventually(lambda: [t.exc_type for t in told] == [MemoryError])
    team.each(calls.append, [7, 8, 9])
    assert sorted(calls) == [1, 2, 7, 8, 9]


def test_no_threads_are_refused():
    with pytest.raises(SpecError, match="threads=0"):
        Team(0)
