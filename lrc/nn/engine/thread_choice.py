"""How many threads the next token gets: all of them, unless the machine is too busy for that.

Threads that wait for each other at every product are fast where each has a processor, and slow
where one of them has to wait for its turn. The result is the same bits either way, so the
engine may change its mind from token to token.
"""

from __future__ import annotations


class ThreadChoice:
    """Chooses between one thread and ``threads`` by the time that recent tokens took.

    Parameters
    ----------
    threads : int
        The most that are allowed.
    """

    #: Tokens between two looks at the other choice: at first, and when it keeps losing.
    FIRST, LAST = 16, 256
    #: What one slow token may add to the time that is expected.
    DOUBT = 1.125

    def __init__(self, threads: int) -> None:
        self._choices = (threads, 1) if threads > 1 else (1,)
        self._seconds: dict[int, float] = {}
        self._best = self._choices[0]
        self._wait = self._left = self.FIRST

    def choose(self) -> int:
        """Threads for the next token."""
        untried = [n for n in self._choices if n not in self._seconds]
        if untried:
            return untried[0]
        self._left -= 1
        if self._left > 0 or len(self._choices) == 1:
            return self._best
        return next(n for n in self._choices if n != self._best)

    def note(self, threads: int, seconds: float) -> None:
        """Tell how long a token took with ``threads``."""
        # A good moment says what is possible; a bad one may have been an accident.
        before = self._seconds.get(threads, seconds)
        self._seconds[threads] = min(seconds, self.DOUBT * before)
        best = min(self._seconds, key=self._seconds.__getitem__)
        if self._left <= 0:
            self._wait = self.FIRST if best != self._best else min(2 * self._wait, self.LAST)
            self._left = self._wait
        self._best = best
