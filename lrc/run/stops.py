"""Texts that end an answer wherever they come up, however its pieces cut them."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence

from lrc.errors import SpecError


class StopFilter:
    """Lets text through up to the first stop string, which it leaves out.

    Text is withheld while it may be the beginning of a stop string.

    Parameters
    ----------
    stops : sequence of str
        None of them empty.

    Attributes
    ----------
    stopped : bool
        Whether one of them has come; nothing is let through from then on.

    Raises
    ------
    SpecError
        A stop string is empty.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        if not all(stops):
            raise SpecError("a stop string is empty; give some text, or none at all")
        self._stops = tuple(stops)
        self._withheld = ""
        self.stopped = False

    def push(self, piece: str) -> str:
        """Text that is now certain to come before any stop string."""
        if self.stopped:
            return ""
        text = self._withheld + piece
        found = [at for at in map(text.find, self._stops) if at >= 0]
        if found:
            self.stopped, self._withheld = True, ""
            return text[: min(found)]
        keep = max((_begun(text, stop) for stop in self._stops), default=0)
        self._withheld = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """What was withheld, once no more text comes."""
        text, self._withheld = self._withheld, ""
        return text


def until_stop(pieces: Iterable[str], stops: Sequence[str] = ()) -> Generator[str, None, None]:
    """Pieces of text, never "", up to the first stop string; nothing is read beyond it.

    Raises
    ------
    SpecError
        At once: a stop string is empty.
    """
    return _filtered(pieces, StopFilter(stops))


def _filtered(pieces: Iterable[str], filtered: StopFilter) -> Generator[str, None, None]:
    for piece in pieces:
        if text := filtered.push(piece):
            yield text
        if filtered.stopped:
            return
    if rest := filtered.flush():
        yield rest


def _begun(text: str, stop: str) -> int:
    """Length of the longest end of ``text`` that begins ``stop`` without being all of it."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
