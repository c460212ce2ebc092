"""A job begins for all of its threads or for none."""

from __future__ import annotations

import threading

import pytest

from lrc_kernels._jit import njit
from lrc_kernels.cpu.engine.barrier import gather, new_place


@njit()
def come(place, thread, needed):
    return gather(place, thread, needed)


def outcomes(comers, needed, apart=False):
    """Whether the job began, as each thread sees it; ``apart``: one leaves, then the next comes."""
    place, seen = new_place(), {}
    come(new_place().ctypes.data, 0, 0)  # compiled

    def one(thread):
        seen[thread] = come(place.ctypes.data, thread, needed)

    threads = [threading.Thread(target=one, args=(t,)) for t in comers]
    for thread in threads:
        thread.start()
        if apart:
            thread.join()
    for thread in threads:
        thread.join()
    return seen


@pytest.mark.parametrize("comers", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
def test_it_begins_when_all_have_come(comers):
    assert outcomes(comers, 2) == {0: True, 1: True, 2: True}


@pytest.mark.parametrize(("comers", "needed"), [((0,), 1), ((0, 1), 2), ((1,), 1), ((1, 2), 2)])
def test_it_is_given_up_when_one_stays_away(comers, needed):
    assert not any(outcomes(comers, needed).values())


@pytest.mark.parametrize("comers", [(0, 1), (1, 0)])
def test_who_comes_too_late_learns_that_it_was_given_up(comers):
    assert outcomes(comers, 1, apart=True) == {0: False, 1: False}


def test_thread_0_need_not_wait():
    assert outcomes((0, 1), 0, apart=True) == {0: True, 1: True}


@pytest.mark.parametrize("parts", [0, 3])
def test_a_place_is_zero_and_has_two_counters_a_part(parts):
    place = new_place(parts)
    assert not place.any()
    assert len(place) == len(new_place()) + 2 * parts
