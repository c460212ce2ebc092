"""Log probabilities of tokens, as the model gives them before anything is left out or penalised."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc.run.sampler import Logits, check_logits
from lrc.run.server.jobs import Scored


def score(logits: Logits, token: int, likeliest: int) -> Scored:
    """A token's log probability from logits (vocab,), and those of so many likeliest ones."""
    check_logits(logits.max())
    wide = logits.astype(np.float64)
    logprobs = wide - _log_sum(wide)
    return Scored(token, float(logprobs[token]), _top(logprobs, likeliest))


def score_rows(logits: NDArray[np.float32], tokens: list[int], likeliest: int) -> list[Scored]:
    """`score` of each row of logits (T, vocab) with its token."""
    return [score(row, token, likeliest) for row, token in zip(logits, tokens, strict=True)]


def _log_sum(values: NDArray[np.float64]) -> float:
    largest = values.max()
    return float(largest + np.log(np.exp(values - largest).sum()))


def _top(logprobs: NDArray[np.float64], count: int) -> tuple[tuple[int, float], ...]:
    count = min(count, len(logprobs))
    if count == 0:
        return ()
    least = np.partition(logprobs, -count)[-count]
    among = np.flatnonzero(logprobs >= least)
    order = among[np.argsort(-logprobs[among], kind="stable")][:count]
    return tuple((int(i), float(logprobs[i])) for i in order)
