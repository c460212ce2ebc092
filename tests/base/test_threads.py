"""Threads: order kept, memory bounded, errors passed on, BLAS left as it was."""

from __future__ import annotations

import sys
import threading
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lrc.base.threads as threads_module
from lrc.base.threads import (
    _blas_controls,
    blas_is_controlled,
    chunks,
    default_threads,
    ordered_map,
    resolve_threads,
    row_tiles,
    single_threaded_blas,
)
from lrc.errors import SpecError

COUNTS = st.integers(1, 4)


def blas_threads():
    return [get() for get, _ in _blas_controls()]


@pytest.fixture
def two_blas_threads():
    """BLAS set to two threads for the test, so that one is a change."""
    before = blas_threads()
    for _, put in _blas_controls():
        put(2)
    yield blas_threads()
    for (_, put), count in zip(_blas_controls(), before, strict=True):
        put(count)


@given(items=st.lists(st.integers(), max_size=30), threads=COUNTS)
def test_results_come_in_order(items, threads):
    assert list(ordered_map(lambda v: v * v, items, threads)) == [v * v for v in items]


def test_order_is_kept_when_the_first_is_the_slowest():
    gate = threading.Event()

    def work(i):
        if i == 0:
            assert gate.wait(10)
        elif i == 1:
            gate.set()
        return i

    assert list(ordered_map(work, range(6), 2)) == list(range(6))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_no_more_than_twice_the_threads_wait(threads):
    taken = []

    def items():
        for i in range(40):
            taken.append(i)
            yield i

    results = ordered_map(lambda v: v, items(), threads)
    for seen, _ in enumerate(results, 1):
        assert len(taken) - seen < 2 * threads
    assert len(taken) == 40


@pytest.mark.parametrize("threads", [1, 2])
def test_the_first_error_is_raised_and_the_rest_not_started(threads, two_blas_threads):
    started = []

    def work(i):
        started.append(i)
        if i == 3:
            raise ValueError("three")
        return i

    with pytest.raises(ValueError, match="three"):
        list(ordered_map(work, range(100), threads))
    assert max(started) <= 3 + 2 * threads
    assert blas_threads() == two_blas_threads


def test_work_runs_on_other_threads_only_when_asked():
    here = threading.get_ident()
    assert set(ordered_map(lambda _: threading.get_ident(), range(4), 1)) == {here}
    assert here not in set(ordered_map(lambda _: threading.get_ident(), range(4), 2))


@pytest.mark.skipif(not blas_is_controlled(), reason="this BLAS has no known controls")
def test_blas_is_single_threaded_inside_and_restored(two_blas_threads):
    assert two_blas_threads
    assert set(two_blas_threads) == {2}
    with single_threaded_blas():
        assert set(blas_threads()) == {1}
        with single_threaded_blas():
            assert set(blas_threads()) == {1}
        assert set(blas_threads()) == {1}
    assert blas_threads() == two_blas_threads
    with pytest.raises(ZeroDivisionError), single_threaded_blas():
        raise ZeroDivisionError
    assert blas_threads() == two_blas_threads
    for threads in (1, 2):
        assert all(set(n) == {1} for n in ordered_map(lambda _: blas_threads(), range(3), threads))
        assert blas_threads() == two_blas_threads


class OtherBlas:
    """What threadpoolctl tells of one library."""

    def __init__(self):
        self.threads = 6

    def get_num_threads(self):
        return self.threads

    def set_num_threads(self, count):
        self.threads = count


@pytest.fixture
def unbundled(monkeypatch):
    """A process whose NumPy and SciPy bring no BLAS of their own."""
    monkeypatch.setattr(threads_module, "_bundled_controls", tuple)
    _blas_controls.cache_clear()
    yield monkeypatch
    _blas_controls.cache_clear()


def test_a_blas_that_is_not_bundled_is_controlled_through_threadpoolctl(unbundled):
    library, asked = OtherBlas(), []

    class Controller:
        lib_controllers = (library,)

        def select(self, **wanted):
            asked.append(wanted)
            return self

    finder = types.SimpleNamespace(ThreadpoolController=Controller)
    unbundled.setitem(sys.modules, "threadpoolctl", finder)
    assert blas_is_controlled()
    assert asked == [{"user_api": "blas"}]
    with single_threaded_blas():
        assert library.threads == 1
    assert library.threads == 6


def test_without_threadpoolctl_such_a_blas_is_not_controlled(unbundled):
    unbundled.setitem(sys.modules, "threadpoolctl", None)
    assert not blas_is_controlled()
    with single_threaded_blas():
        pass


def test_threadpoolctl_finds_the_libraries_that_are_bundled(two_blas_threads):
    pytest.importorskip("threadpoolctl")
    found = [get() for get, _ in threads_module._foreign_controls()]
    assert set(found) == {2}


@pytest.mark.parametrize("threads", [1, 2])
def test_a_map_that_is_given_up_restores_blas(threads, two_blas_threads):
    results = ordered_map(lambda v: v, range(10), threads)
    assert next(results) == 0
    results.close()
    assert blas_threads() == two_blas_threads


@given(length=st.integers(0, 100), size=st.integers(1, 30))
def test_chunks_tile_the_range(length, size):
    parts = chunks(length, size)
    assert [i for part in parts for i in range(length)[part]] == list(range(length))
    assert all(part.stop - part.start == size for part in parts[:-1])
    assert all(0 < part.stop - part.start <= size for part in parts)


def test_thread_counts():
    assert resolve_threads(3) == 3
    assert resolve_threads(None) == default_threads() >= 1
    for bad in (0, -2):
        with pytest.raises(SpecError, match=f"threads={bad} must be at least 1"):
            resolve_threads(bad)


@given(
    m=st.integers(1, 9000), unit=st.sampled_from([16, 64, 256]), most=st.sampled_from([1, 2, 3, 32])
)
def test_row_tiles_cover_all_rows_once(m, unit, most):
    tiles = row_tiles(m, unit, most * unit)
    assert [i for t in tiles for i in range(t.start, t.stop)] == list(range(m))
    assert all(t.start % unit == 0 for t in tiles)
    assert max(t.stop - t.start for t in tiles) <= most * unit
    assert all(t.stop - t.start <= 512 for t in row_tiles(m, unit))


@pytest.mark.parametrize("m", [192, 576, 1536, 4096, 11008])
def test_common_matrices_are_cut_evenly(m):
    tiles = row_tiles(m)
    heights = [t.stop - t.start for t in tiles]
    assert len(tiles) % 2 == 0
    assert min(heights) > 0.7 * max(heights)
