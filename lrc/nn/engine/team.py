"""Threads that help the calling one; no interrupt or error of the caller can leave them astray.

Only Python's main thread is interrupted by signals, and it may be so between any two of its
instructions. So it gives work away by single puts into queues, which happen or do not; and what
it gives away holds every array whose address it uses, needs nobody's answer to come to an end,
and may be left alone.
"""

from __future__ import annotations

import atexit
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from queue import SimpleQueue
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from lrc.errors import SpecError

T = TypeVar("T")

#: Of one job: its words (`barrier.new_place`), this thread, all threads. True if the job began,
#: see `barrier.gather`, both of `lrc_kernels.cpu.engine`.
Task: TypeAlias = Callable[[NDArray[np.int64], int, int], bool]
_Jobs: TypeAlias = "SimpleQueue[Callable[[], object] | None]"

_HELPERS: weakref.WeakKeyDictionary[threading.Thread, _Jobs] = weakref.WeakKeyDictionary()


class Team:
    """The calling thread and ``threads - 1`` helpers, which end with the team.

    Parameters
    ----------
    threads : int

    Raises
    ------
    SpecError
        Without any thread.
    """

    def __init__(self, threads: int) -> None:
        if threads < 1:
            raise SpecError(f"threads={threads} must be at least 1")
        self.threads = threads
        self._queues: list[_Jobs] = [SimpleQueue() for _ in range(threads - 1)]
        weakref.finalize(self, _dismiss, self._queues)
        for jobs in self._queues:
            helper = threading.Thread(target=_help, args=(jobs,), name="lrc-helper", daemon=True)
            _HELPERS[helper] = jobs
            helper.start()

    def call(self, task: Task, threads: int | None = None, parts: int = 0) -> bool:
        """Make one compiled call on several threads, or on this one where the others do not come.

        Parameters
        ----------
        task : callable
            Holds all that it reads and writes. It begins by `gather`, and writes nothing unless
            that tells it to.
        threads : int or None
            At most those of the team; None is all.
        parts : int
            Of `lrc_kernels.cpu.engine.barrier.new_place`.

        Returns
        -------
        bool
            Whether the others came.
        """
        from lrc_kernels.cpu.engine.barrier import new_place

        threads = self.threads if threads is None else threads
        place = new_place(parts)
        for number, jobs in enumerate(self._queues[: threads - 1], 1):
            jobs.put(partial(task, place, number, threads))
        together = task(place, 0, threads)
        if not together:
            task(new_place(parts), 0, 1)
        return together

    def each(self, work: Callable[[T], object], items: Sequence[T]) -> None:
        """Call ``work`` on every item, on whichever thread is free.

        Raises
        ------
        BaseException
            The first item's of those that failed.
        """
        if not self._queues or len(items) == 1:
            for item in items:
                work(item)
            return
        left = iter(list(enumerate(items)))
        ends: SimpleQueue[tuple[int, BaseException | None]] = SimpleQueue()
        for jobs in self._queues[: len(items) - 1]:
            jobs.put(partial(_work_off, work, left, ends))
        _work_off(work, left, ends)
        failed = [(i, error) for i, error in (ends.get() for _ in items) if error is not None]
        if failed:
            raise min(failed, key=lambda pair: pair[0])[1]


def _work_off(
    work: Callable[[T], object],
    left: Iterator[tuple[int, T]],
    ends: SimpleQueue[tuple[int, BaseException | None]],
) -> None:
    """Take items until none is left; tell of each that it is done, or why not."""
    for i, item in left:
        error: BaseException | None = None
        try:
            work(item)
        except Exception as found:
            error = found
        except BaseException as found:
            ends.put((i, found))
            raise
        ends.put((i, error))


def _help(jobs: _Jobs) -> None:
    """Do jobs until None comes. Jobs tell their callers of errors; others are reported here."""
    while (job := jobs.get()) is not None:
        try:
            job()
        except BaseException:
            kind, error, trace = sys.exc_info()
            told = threading.ExceptHookArgs((kind, error, trace, threading.current_thread()))
            threading.excepthook(told)
            del kind, error, trace, told
        del job  # or it would live on until the next one comes


def _dismiss(queues: Iterable[_Jobs]) -> None:
    for jobs in queues:
        jobs.put(None)


@atexit.register
def _end() -> None:
    """Let no helper run compiled code while the process is taken down."""
    helpers = list(_HELPERS)
    _dismiss(_HELPERS.values())
    for helper in helpers:
        if helper.is_alive():
            helper.join(10)
