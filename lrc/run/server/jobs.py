"""One text to be made: what is asked for, and what is told of it while it is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from lrc.run.sampler import Sampler
from lrc.run.schema import Grammar


@dataclass(frozen=True)
class Ask:
    """A text that is asked for.

    Attributes
    ----------
    ids
        Of the prompt, at least one.
    most
        Most new tokens; with 0 only the prompt is scored.
    sampler
    stops
        Texts before which it ends.
    likeliest
        How many of the likeliest tokens are told at each place; None tells no probabilities.
    score_prompt
        Whether they are told of the prompt's tokens, too.
    grammar
        Of JSON that the text has to be, where it has to.
    """

    ids: tuple[int, ...]
    most: int
    sampler: Sampler = field(default_factory=Sampler)
    stops: tuple[str, ...] = ()
    likeliest: int | None = None
    score_prompt: bool = False
    grammar: Grammar | None = None


@dataclass(frozen=True)
class Scored:
    """A token, its log probability, None for a text's first, and the likeliest ones with theirs."""

    token: int
    logprob: float | None
    likeliest: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Piece:
    """Some more text, which may be "", and the tokens that came with it where they are scored."""

    text: str
    scored: tuple[Scored, ...] = ()


@dataclass(frozen=True)
class End:
    """How a text ended: "stop" or "length"; how many tokens were made, and not read again."""

    reason: str
    made: int
    reused: int


@dataclass(frozen=True)
class Failure:
    """Why there will be no more of a text."""

    error: Exception


Event: TypeAlias = Piece | End | Failure


class Job:
    """A text on its way.

    Parameters
    ----------
    ask : Ask
    tell : callable
        Is given events, by the thread that makes the text; `End` or `Failure` is the last one.
    """

    def __init__(self, ask: Ask, tell: Callable[[Event], object]) -> None:
        self.ask, self.tell = ask, tell
        self._cancelled = False

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody wants the text any more."""
        return self._cancelled

    def cancel(self) -> None:
        """Let no more work be done for it; from any thread."""
        self._cancelled = True
