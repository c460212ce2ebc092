"""How likely texts go on as given: log probabilities of continuations of a context."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import SILENT, Progress
from lrc.base.threads import resolve_threads
from lrc.errors import SpecError
from lrc.models.base import Model
from lrc.run.server.scores import score_rows
from lrc.run.streams import TOGETHER, Streams

#: Positions whose logits exist at the same time.
ROWS = 64


class Likelihood(NamedTuple):
    """Sum of log p over the tokens of a continuation, and whether each is the likeliest."""

    logprob: float
    is_greedy: bool


class Continuations:
    """Scores continuations, ``together`` at a time; what contexts share is read once.

    Neither changes a result but by rounding: another number of tokens is multiplied at once. A
    compressed model works as on a prompt of `lrc.generate`: on integers, several tokens at once.
    What has no engine for several texts is scored one after the other.

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
    together : int
        Contexts that are worked on at the same time; each has a cache.
    """

    def __init__(
        self,
        model: Model,
        longest: int,
        threads: int | None = None,
        activations: str = "i8",
        progress: Progress = SILENT,
        *,
        together: int = 1,
    ) -> None:
        model.check_length(longest)
        self._model, self._longest = model, longest
        workers = resolve_threads(threads)
        self._streams = Streams(
            model, together, longest, workers, activations, batch=together > 1, progress=progress
        )

    def score(self, context: Sequence[int], continuation: Sequence[int]) -> Likelihood:
        """Likelihood of ``continuation`` after ``context``, both token ids, neither empty.

        Raises
        ------
        SpecError
            One is empty, the continuation is longer than what the model sees, or an id is unknown.
        """
        ((_, found),) = self.score_all([(context, continuation)])
        return found

    def score_all(
        self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]
    ) -> Iterator[tuple[int, Likelihood]]:
        """Numbers of contexts with continuations, as they are done, and their likelihoods.

        Raises
        ------
        SpecError
            As `score` does, before any is scored.
        """
        asked = [self._asked(context, continuation) for context, continuation in pairs]
        waiting = [*reversed(_runs(asked))]
        working: dict[int, list[int]] = {}
        while waiting or any(working.values()):
            for slot in range(len(self._streams.streams)):
                if not working.get(slot) and waiting:
                    working[slot] = waiting.pop()
            chosen: dict[int, list[int]] = {}
            for slot in [slot for slot, run in working.items() if run]:
                seen, continuation = asked[working[slot][0]]
                stream = self._streams.streams[slot]
                kept = stream.begin(seen[: len(seen) - len(continuation) + 1])
                if chosen and sum(map(len, chosen.values())) + len(seen) - kept > TOGETHER:
                    continue  # the next time; what it has kept it keeps
                chosen[slot] = seen[kept:]
            rows = self._streams.outputs(
                [self._streams.streams[slot] for slot in chosen], [*chosen.values()]
            )
            numbers = [working[slot].pop(0) for slot in chosen]
            tokens = [asked[i][1] for i in numbers]
            last = [own[-len(scored) :] for own, scored in zip(rows, tokens, strict=True)]
            yield from zip(numbers, self._likelihoods(last, tokens), strict=True)

    def _asked(
        self, context: Sequence[int], continuation: Sequence[int]
    ) -> tuple[list[int], list[int]]:
        """What the model is to see, and the tokens whose probabilities are asked for."""
        count = len(continuation)
        if not len(context) or not 0 < count <= self._longest:
            raise SpecError(
                f"a context of {len(context)} tokens and a continuation of {count} cannot be "
                f"scored; give at least one of each, and at most {self._longest} to score"
            )
        seen = [*context, *continuation][-self._longest - 1 : -1]
        self._model.check_ids(np.asarray([*seen, continuation[-1]]))
        return seen, list(continuation)

    def _likelihoods(
        self, rows: Sequence[NDArray[np.float32]], tokens: Sequence[list[int]]
    ) -> list[Likelihood]:
        """Those of the tokens of each text after its rows (T, hidden)."""
        every, flat = np.concatenate(rows), [i for own in tokens for i in own]
        scored: list[tuple[float, bool]] = []
        for start in range(0, len(flat), ROWS):
            logits = self._streams.head(every[start : start + ROWS])
            for one in score_rows(logits, flat[start : start + ROWS], 1):
                assert one.logprob is not None
                scored.append((one.logprob, one.likeliest[0][0] == one.token))
        found, at = [], 0
        for own in tokens:
            part = scored[at : at + len(own)]
            found.append(Likelihood(sum(p for p, _ in part), all(best for _, best in part)))
            at += len(own)
        return found


def _runs(asked: Sequence[tuple[list[int], list[int]]]) -> list[list[int]]:
    """Numbers of texts in runs that one cache takes in turn: half of each begins like the last."""
    runs: list[list[int]] = []
    order = sorted(range(len(asked)), key=lambda i: asked[i])
    for before, i in zip([None, *order], order, strict=False):
        if before is not None and _shared(asked[before][0], asked[i][0]) * 2 >= len(asked[i][0]):
            runs[-1].append(i)
        else:
            runs.append([i])
    return runs


def _shared(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))


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
