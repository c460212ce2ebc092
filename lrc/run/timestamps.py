"""Times in transcripts: tokens that say when something begins and ends (Radford et al., 2022).

A model that was trained on them writes one before and one behind each stretch of text, in steps of
20 ms from the beginning of the window of audio; the end of a stretch is the beginning of the next.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lrc.run.sampler import Logits

#: Seconds from one time to the next.
STEP = 0.02


@dataclass(frozen=True)
class Stretch:
    """Text of a window, as tokens, and when it is said, in seconds from the window's begin."""

    begin: float
    end: float
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Times:
    """The tokens of times, and which of them may come next.

    Attributes
    ----------
    never : int
        The token that stands for no times.
    end : int
        The token that ends a text; those below it are text.
    latest_first : int or None
        Steps up to which a text may begin.
    """

    never: int
    end: int
    latest_first: int | None = None

    @property
    def zero(self) -> int:
        """The token of the window's begin; all from it on are times."""
        return self.never + 1

    def restrict(self, logits: Logits, found: Sequence[int]) -> None:
        """Take out what may not follow the tokens ``found``, from ``logits`` (vocab,), in place.

        A text begins with a time. Times come in pairs, the end of a stretch and the begin of the
        next, unless the text ends; they never go back, and only such a pair may say the same time
        twice. Where all times together are likelier than the likeliest other token, it is a time.
        """
        zero = self.zero
        logits[self.never] = -np.inf
        times = [token for token in found if token >= zero]
        if not found:
            logits[:zero] = -np.inf
            if self.latest_first is not None:
                logits[zero + self.latest_first + 1 :] = -np.inf
        elif found[-1] >= zero:
            begun = len(found) < 2 or found[-2] >= zero
            if begun:
                logits[zero:] = -np.inf
            else:
                logits[: self.end] = -np.inf
                logits[zero : times[-1]] = -np.inf
        elif times:
            logits[zero : times[-1] + 1] = -np.inf
        if _log_sum(logits[zero:]) > logits[:zero].max():
            logits[:zero] = -np.inf

    def stretches(self, ids: Sequence[int], seconds: float) -> tuple[list[Stretch], float]:
        """Cut a transcript of a window of so many ``seconds`` at its times.

        Returns
        -------
        stretches : list
            Those that are whole. Where the last one has no end although others have, it is
            left out: the window ended in its midst.
        heard : float
            Seconds that they cover, so that the next window begins there: all of the window
            where no stretch was left out.
        """
        zero = self.zero
        is_time = [token >= zero for token in ids]
        pairs = [i for i in range(1, len(ids)) if is_time[i - 1] and is_time[i]]
        if not pairs:
            end = max((ids[i] - zero for i in range(len(ids)) if is_time[i]), default=0) * STEP
            return [self._stretch(ids, 0.0, end or seconds)], seconds
        ends_alone = is_time[-1] and not is_time[-2]
        edges = [0, *pairs, *([len(ids)] if ends_alone else [])]
        found = [
            self._stretch(ids[a:b], (ids[a] - zero) * STEP, (ids[b - 1] - zero) * STEP)
            for a, b in itertools.pairwise(edges)
        ]
        return found, seconds if ends_alone else found[-1].end

    def _stretch(self, ids: Sequence[int], begin: float, end: float) -> Stretch:
        return Stretch(begin, end, tuple(token for token in ids if token < self.zero))


def _log_sum(logits: Logits) -> float:
    """The logarithm of a sum of exponentials."""
    top = logits.max(initial=-np.inf)
    return float(top + np.log(np.exp(logits - top).sum())) if np.isfinite(top) else -np.inf
