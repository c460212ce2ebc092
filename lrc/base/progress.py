"""What a long job tells its caller: bars and notes. Nothing here prints.

Notes that nobody asked for go to the logger ``lrc``, as information: programs that embed this
library see them as they see those of others, and nothing is shown unless they do.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

#: Moves a bar forward by ``n`` units (1 unless told otherwise).
Advance = Callable[..., object]


class Progress(Protocol):
    """Receives the progress of a long job.

    Implementations may be called from one thread only: the one that runs the job.
    """

    def bar(self, description: str, total: int, unit: str) -> AbstractContextManager[Advance]:
        """Open a bar of ``total`` units; the context yields ``advance(n=1)``."""
        ...

    def note(self, text: str) -> None:
        """Tell one line, such as a warning or a stage that was skipped."""
        ...


#: Of the whole library; quiet until a program says where it goes.
LOG = logging.getLogger("lrc")
LOG.addHandler(logging.NullHandler())


class SilentProgress:
    """The default: shows nothing, and hands notes and the times of stages to the logger ``lrc``.

    Examples
    --------
    >>> with SilentProgress().bar("blocks", 2, "block") as advance:
    ...     advance()
    ...     advance(1)
    """

    @contextlib.contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Advance]:
        """Yield an ``advance`` that does nothing."""

        def advance(n: int = 1) -> None:
            del n

        with _timed(description, total, unit):
            yield advance

    def note(self, text: str) -> None:
        """Log the line."""
        LOG.info("%s", text)


SILENT = SilentProgress()

#: Is told the stage, how many units are done, of how many, and what they are.
OnProgress = Callable[[str, int, int, str], object]


class ProgressCallback:
    """Progress as calls of a function, for programs that show it in their own way.

    Parameters
    ----------
    on_progress
        Called with a stage's description, the units done, their total and their name: once when
        the stage begins, with 0 done, and whenever there is more. What it raises ends the job as
        an interrupt would: what is finished stays on disk, and the same call goes on from there.
    on_note
        Called with a line; without it lines go to the logger ``lrc``.

    Examples
    --------
    >>> told = ProgressCallback(lambda *step: print(*step), print)
    >>> with told.bar("compress", 3, "matrix") as advance:
    ...     advance(2)
    compress 0 3 matrix
    compress 2 3 matrix
    >>> told.note("few tokens")
    few tokens
    """

    def __init__(
        self, on_progress: OnProgress, on_note: Callable[[str], object] | None = None
    ) -> None:
        self._on_progress = on_progress
        self._on_note = SILENT.note if on_note is None else on_note

    @contextlib.contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Advance]:
        """Yield an ``advance`` that tells the function."""
        done = 0

        def advance(n: int = 1) -> None:
            nonlocal done
            done += n
            self._on_progress(description, done, total, unit)

        self._on_progress(description, 0, total, unit)
        with _timed(description, total, unit):
            yield advance

    def note(self, text: str) -> None:
        """Tell the line."""
        self._on_note(text)


@contextlib.contextmanager
def _timed(description: str, total: int, unit: str) -> Iterator[None]:
    """Log when a stage begins, and how long it took where it came to its end."""
    LOG.debug("%s: %d x %s", description, total, unit)
    began = time.perf_counter()
    yield
    LOG.info("%s: %d x %s in %.1f s", description, total, unit, time.perf_counter() - began)


class NotesOnly(SilentProgress):
    """Hands notes on and shows no bars.

    Parameters
    ----------
    inner
        Is told the notes.
    """

    def __init__(self, inner: Progress) -> None:
        self._inner = inner

    def note(self, text: str) -> None:
        """Tell the line."""
        self._inner.note(text)


class ToldWhenBegun:
    """Hands all on, and tells a line before the first bar: nothing that was refused is planned.

    Parameters
    ----------
    inner
        Is told.
    text
        The line.
    """

    def __init__(self, inner: Progress, text: str) -> None:
        self._inner, self._text = inner, text

    @contextlib.contextmanager
    def bar(self, description: str, total: int, unit: str) -> Iterator[Advance]:
        """Tell the line, once, and show the bar."""
        if self._text:
            self._inner.note(self._text)
            self._text = ""
        with self._inner.bar(description, total, unit) as advance:
            yield advance

    def note(self, text: str) -> None:
        """Tell another line."""
        self._inner.note(text)


@contextlib.contextmanager
def counted(progress: Progress, unit: str) -> Iterator[Callable[[str, int, int], None]]:
    """Yield a ``tell(description, done, total)`` that opens one bar and moves it to ``done``.

    Examples
    --------
    >>> with counted(SILENT, "tensor") as tell:
    ...     tell("reading", 1, 2)
    """
    with contextlib.ExitStack() as stack:
        state: tuple[Advance, int] | None = None

        def tell(description: str, done: int, total: int) -> None:
            nonlocal state
            if state is None:
                state = stack.enter_context(progress.bar(description, total, unit)), 0
            advance, before = state
            advance(done - before)
            state = advance, done

        yield tell
