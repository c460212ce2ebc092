"""Speculative decoding by prompt lookup: what followed the last tokens before is read ahead.

Where the last tokens have been in the text before, those behind them there are proposed, and one
pass over the weights says what the model makes of all of them (Leviathan et al., 2023; the
proposals are those of Saxena, 2023). Each token is chosen from the model's own logits, with the
draws of plain decoding: a proposal is one token for certain, for which to accept it where it is
what is drawn is the rejection rule. So the text is that of plain decoding, drawn or greedy, as
far as the arithmetic of one token and that of several are the same.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable, Sequence

import numpy as np

from lrc.errors import SpecError
from lrc.models.base import Model
from lrc.run.sampler import Chooser, Logits
from lrc.run.stream import Stream

#: Tokens that have to have been there before. A compressed model reads nine tokens at once in the
#: time of five one by one, so that what is hardly more than chance costs more than it brings.
SHORTEST = 4
#: Most tokens that may be proposed at a time.
MOST = 64
#: Tokens that are proposed for each that has been there before.
AHEAD = 2


class Lookup:
    """Proposes how one text goes on.

    Parameters
    ----------
    most : int
        Tokens of a proposal; 0 never proposes any.
    prompt : iterable of int

    Attributes
    ----------
    proposed, accepted : int
        Tokens so far.

    Raises
    ------
    SpecError
        ``most`` is not allowed.
    """

    def __init__(self, most: int, prompt: Iterable[int] = ()) -> None:
        check_lookup(most)
        self._most = most
        self._ids: list[int] = []
        #: What each n-gram was last followed by: its place.
        self._after: dict[tuple[int, ...], int] = {}
        self.proposed = self.accepted = 0
        self._misses = self._skipped = 0
        if most:
            for token in prompt:
                self.add(int(token))

    def add(self, token: int) -> None:
        """The next token of the text."""
        if not self._most:
            return
        place = len(self._ids)
        if place >= SHORTEST:
            self._after[tuple(self._ids[place - SHORTEST :])] = place
        self._ids.append(token)

    def propose(self, left: int) -> list[int]:
        """At most ``left`` tokens that may follow; none where nothing like it was there."""
        start = self._after.get(tuple(self._ids[-SHORTEST:]))
        if start is None or left < 1 or self._is_resting():
            return []
        same = next(
            (n for n in range(SHORTEST, MOST) if not self._is_same(start, n)), MOST
        )  # fmt: skip
        return self._from(start, min(self._most, left, AHEAD * same))

    def _is_same(self, start: int, back: int) -> bool:
        """Whether the token so far before ``start`` is that before the end."""
        return back < start and self._ids[start - 1 - back] == self._ids[-1 - back]

    def note(self, proposed: int, accepted: int) -> None:
        """Tell how many of the tokens that were proposed came."""
        self.proposed += proposed
        self.accepted += accepted
        self._misses = 0 if 2 * accepted >= proposed else self._misses + 1

    def _from(self, start: int, length: int) -> list[int]:
        """What came from a place on, and, where the text ends there, comes again."""
        found = self._ids[start : start + length]
        while len(found) < length:
            found += found[: length - len(found)]
        return found

    def _is_resting(self) -> bool:
        """Whether to let a proposal pass: more and more of them while they are of no use."""
        if self._skipped < min(2**self._misses - 1, MOST):
            self._skipped += 1
            return True
        self._skipped = 0
        return False


def check_lookup(most: int) -> None:
    """Refuse numbers of tokens that may not be proposed.

    Raises
    ------
    SpecError
        With the number.
    """
    if not 0 <= most <= MOST:
        raise SpecError(f"lookup={most} must lie between 0, which is none, and {MOST}")


def refuse_states(model: Model, most: int) -> None:
    """Refuse to look up where tokens cannot be taken back.

    Raises
    ------
    SpecError
        The model carries states from token to token.
    """
    if most and model.new_cache(1, 1).states:
        raise SpecError(
            "lookup has to take tokens back, and this model carries states that cannot be; "
            "leave it out"
        )


class ReadAhead:
    """Logits of one text, token by token, some of which are read before they are chosen.

    Parameters
    ----------
    stream : Stream
    lookup : Lookup
        Knows the prompt.
    """

    def __init__(self, stream: Stream, lookup: Lookup) -> None:
        self.stream, self.lookup = stream, lookup
        self._proposed: list[int] = []
        self._rows = np.empty((0, 0), np.float32)
        self._accepted = 0

    def after(self, token: int, left: int) -> Logits:
        """Logits (vocab,) after one more token, behind which there may be ``left`` others."""
        self.lookup.add(token)
        if self._proposed and token == self._proposed[self._accepted]:
            self._accepted += 1
            row: Logits = self._rows[self._accepted]
            if self._accepted == len(self._proposed):
                self.settle()
            return row
        self.settle()
        # The token behind the last proposal comes without one.
        proposed = self.lookup.propose(left - 1)
        if not proposed:
            return self.stream.read([token])
        self._rows = self.stream.read_each([token, *proposed])
        self._proposed, self._accepted = proposed, 0
        first: Logits = self._rows[0]
        return first

    def pass_by(self, token: int) -> None:
        """Know of a token that the stream itself is to read next."""
        self.settle()
        self.lookup.add(token)

    def settle(self) -> None:
        """Take back what was read and not chosen."""
        if self._proposed:
            proposed, self._proposed = self._proposed, []
            self.lookup.note(len(proposed), self._accepted)
            if self._accepted < len(proposed):
                self.stream.take_back(len(proposed) - self._accepted)


def continued(
    stream: Stream,
    chooser: Chooser,
    ids: Sequence[int],
    most: int,
    eos_ids: Collection[int],
    lookup: Lookup,
) -> Generator[int, None, None]:
    """New tokens of a text, as they are chosen, up to one that ends it.

    Parameters
    ----------
    stream : Stream
        With the tokens before ``ids``.
    chooser : Chooser
    ids : sequence of int
        Tokens that are yet to be read, at least one.
    most : int
        Most new tokens, at least one.
    eos_ids : collection of int
        End the text; they are not yielded.
    lookup : Lookup
        Knows the prompt.
    """
    reading = ReadAhead(stream, lookup)
    logits = stream.read(list(ids))
    try:
        for left in range(most - 1, -1, -1):
            token = chooser.choose(logits)
            if token in eos_ids:
                return
            yield token
            if chooser.is_over:
                return
            if left:
                logits = reading.after(token, left)
    finally:
        reading.settle()
