"""What a long job tells its caller: bars and notes. Nothing here prints."""

from __future__ import annotations

import contextlib
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


class SilentProgress:
    """The default: says nothing.

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

        yield advance

    def note(self, text: str) -> None:
        """Drop the line."""


SILENT = SilentProgress()


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
