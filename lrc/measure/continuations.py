"""How likely texts go on as given: log probabilities of continuations of a context."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lrc.base.progress import SILENT, Progress
from lrc.base.threads import resolve_threads
from lrc.errors import SpecError
from lrc.models.base import Model
from lrc.run.server.scores import score_rows
from lrc.run.streams import Streams

#: Positions whose logits exist at the same time.
ROWS = 64


class Likelihood(NamedTuple):
    """Sum of log p over the tokens of a continuation, and whether each is the likeliest."""

    logprob: float
    is_greedy: bool


class Continuations:
    """Scores continuations one after the other; what a context shares with the last is kept.

    That changes a result by rounding alone: fewer tokens are multiplied at once. A compressed
    model works as on a prompt of `lrc.generate`: on integers, several tokens at once.

    Parameters
    ----------
    model : Model
    longest : int
        Most tokens that the model sees: of a longer context only the end counts.
    threads : int or None
        Every processor where None; never changes a result.
    activations : str
        "i8" or "f32", of compressed models.
    progress : Progress
    """

    def __init__(
        self,
        model: Model,
        longest: int,
        threads: int | None = None,
        activations: str = "i8",
        progress: Progress = SILENT,
    ) -> None:
        model.check_length(longest)
        self._model, self._longest = model, longest
        workers = resolve_threads(threads)
        self._streams = Streams(
            model, 1, longest, workers, activations, batch=False, progress=progress
        )

    def score(self, context: Sequence[int], continuation: Sequence[int]) -> Likelihood:
        """Likelihood of ``continuation`` after ``context``, both token ids, neither empty.

        Raises
        ------
        SpecError
            One is empty, the continuation is longer than what the model sees, or an id is unknown.
        """
        count = len(continuation)
        if not len(context) or not 0 < count <= self._longest:
            raise SpecError(
                f"a context of {len(context)} tokens and a continuation of {count} cannot be "
                f"scored; give at least one of each, and at most {self._longest} to score"
            )
        seen = [*context, *continuation][-self._longest - 1 : -1]
        self._model.check_ids(np.asarray([*seen, continuation[-1]]))
        stream = self._streams.streams[0]
        kept = stream.begin(seen[: len(seen) - count + 1])
        rows = stream.outputs(seen[kept:])[-count:]
        logprob, is_greedy = 0.0, True
        for start in range(0, count, ROWS):
            tokens = list(continuation[start : start + ROWS])
            for one in score_rows(self._streams.head(rows[start : start + ROWS]), tokens, 1):
                assert one.logprob is not None
                logprob += one.logprob
                is_greedy &= one.likeliest[0][0] == one.token
        return Likelihood(logprob, is_greedy)


def rolling(ids: Sequence[int], prefix: int, longest: int) -> Iterator[tuple[list[int], list[int]]]:
    """Contexts and continuations that score every token of a text once, from much context.

    ``prefix`` stands before the text. With each stretch the model sees ``longest`` tokens, or all
    that there are.

    Examples
    --------
    >>> list(rolling([0, 1, 2, 3, 4], 9, 3))
    [([9], [0, 1, 2]), ([1, 2], [3, 4])]
    """
    every = [prefix, *ids]
    for start in range(0, len(ids), longest):
        end = min(start + longest, len(ids))
        first = max(end - longest, 0)
        yield every[first : start + 1], list(ids[start:end])
