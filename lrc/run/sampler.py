"""How the next token is chosen from a model's logits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lrc.base.record import Record
from lrc.errors import NumericalError, SpecError

if TYPE_CHECKING:
    from lrc.run.schema import Constraint

Logits = NDArray[np.float32]
_NONE: Mapping[int, int] = MappingProxyType({})


@dataclass(frozen=True)
class Sampler(Record):
    """How the next token is chosen: what is out of question is left out, the rest is drawn.

    Each option works on what those before it left.

    Parameters
    ----------
    temperature : float
        Divides the logits; 0 takes the likeliest token (the lowest id on a tie).
    top_p : float
        In (0, 1]: keeps the smallest set of likeliest tokens whose probabilities reach it
        (Holtzman et al., 2020); 1 keeps all.
    seed : int
        Of the draws; at least 0.
    top_k : int
        Keeps so many likeliest tokens (Fan et al., 2018), before ``top_p``; 0 keeps all.
    min_p : float
        In [0, 1]: keeps tokens at least so many times as probable as the likeliest
        (Nguyen et al., 2024), after ``top_p``; 0 keeps all.
    repetition_penalty : float
        Above 0: logits of tokens that the prompt or the text has already are divided by it
        before all else (Keskar et al., 2019), or multiplied where they are negative, so that
        above 1 such a token is never more likely than without; 1 changes nothing.
    presence_penalty, frequency_penalty : float
        Taken off the logits of tokens that the text has, which the prompt is no part of: the
        first once, the second as often as the token is there (as in OpenAI's interface).
    logit_bias : dict of int to float
        Added to the logits of these ids, after the penalties.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 20261122
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: dict[int, float] = field(default_factory=dict)

    def check(self) -> None:
        """Refuse values that are not allowed."""
        if not 0 <= self.temperature < float("inf"):
            raise SpecError(f"temperature={self.temperature} must be at least 0")
        if not 0 < self.top_p <= 1:
            raise SpecError(f"top_p={self.top_p} must lie in (0, 1]")
        if self.seed < 0:
            raise SpecError(f"seed={self.seed} must be at least 0")
        if self.top_k < 0:
            raise SpecError(f"top_k={self.top_k} must be at least 0; 0 keeps all")
        if not 0 <= self.min_p <= 1:
            raise SpecError(f"min_p={self.min_p} must lie in [0, 1]")
        if not 0 < self.repetition_penalty < float("inf"):
            raise SpecError(f"repetition_penalty={self.repetition_penalty} must be above 0")
        for name in ("presence_penalty", "frequency_penalty"):
            if not abs(getattr(self, name)) < float("inf"):
                raise SpecError(f"{name}={getattr(self, name)} must be a finite number")
        for index, bias in self.logit_bias.items():
            if index < 0 or not abs(bias) < float("inf"):
                raise SpecError(f"logit_bias gives {bias} to {index}; expected ids and numbers")

    def pick(
        self,
        logits: Logits,
        rng: np.random.Generator,
        seen: Collection[int] = (),
        counts: Mapping[int, int] = _NONE,
    ) -> int:
        """Choose a token id from logits (vocab,); one uniform draw unless greedy.

        Parameters
        ----------
        logits
            (vocab,); not changed.
        rng
            Gives the draw.
        seen
            Ids of the prompt and the text so far, for ``repetition_penalty``.
        counts
            How often the text so far has each id, for the other penalties.

        Raises
        ------
        NumericalError
            When a logit is NaN, or none is finite.
        SpecError
            When there is a bias for an id that the model does not have.
        """
        check_logits(logits.max())
        scores = self._scores(logits, seen, counts)
        if self.temperature == 0:
            return int(scores.argmax())
        weights = np.exp((scores - scores.max()) / self.temperature)
        kept = self._kept(scores, weights)
        mass = np.cumsum(weights[kept])
        return int(kept[invert(mass, rng.random() * mass[-1])])

    def _scores(
        self, logits: Logits, seen: Collection[int], counts: Mapping[int, int]
    ) -> NDArray[np.float64]:
        """Logits after penalties and biases."""
        scores = logits.astype(np.float64)
        if self.repetition_penalty != 1:
            _penalise(scores, seen, self.repetition_penalty)
        if counts and (self.presence_penalty or self.frequency_penalty):
            ids, times = np.array(list(counts)), np.array(list(counts.values()))
            scores[ids] -= self.presence_penalty * (times > 0) + self.frequency_penalty * times
        if self.logit_bias:
            self.check_ids(len(scores))
            scores[list(self.logit_bias)] += list(self.logit_bias.values())
        return scores

    def check_ids(self, vocab_size: int) -> None:
        """Refuse biases for ids beyond a vocabulary.

        Raises
        ------
        SpecError
            With the id.
        """
        largest = max(self.logit_bias, default=0)
        if largest >= vocab_size:
            raise SpecError(
                f"logit_bias names token {largest}; this model has ids 0 to {vocab_size - 1}"
            )

    def _kept(self, scores: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.intp]:
        """Indices that may be drawn; heaviest first where they had to be put in order."""
        kept = np.arange(len(weights))
        if self.top_k:
            kept = _highest(scores, self.top_k)
        if self.top_p < 1:
            kept = kept[_nucleus(weights[kept], self.top_p)]
        if self.min_p:
            kept = kept[weights[kept] >= self.min_p * weights.max()]
        return kept


class Chooser:
    """Chooses the tokens of one text by a sampler, and counts them for its penalties.

    Parameters
    ----------
    sampler : Sampler
    prompt : iterable of int
    constraint : Constraint or None
        What is out of question beside that, from the beginning of the text.
    """

    def __init__(
        self, sampler: Sampler, prompt: Iterable[int], constraint: Constraint | None = None
    ) -> None:
        self._constraint = constraint
        self._sampler, self._rng = sampler, np.random.default_rng(sampler.seed)
        self._seen: set[int] = set(map(int, prompt))
        self._counts: Counter[int] = Counter()

    def choose(self, logits: Logits) -> int:
        """The next token, from logits (vocab,); it is counted."""
        if self._constraint is not None:
            check_logits(logits.max())
            logits = np.where(self._constraint.allowed(), logits, np.float32(-np.inf))
        token = self._sampler.pick(logits, self._rng, self._seen, self._counts)
        if self._constraint is not None:
            self._constraint.take(token)
        self._seen.add(token)
        self._counts[token] += 1
        return token

    @property
    def is_over(self) -> bool:
        """Whether nothing may follow the tokens that were chosen."""
        return self._constraint is not None and self._constraint.is_over


def _penalise(scores: NDArray[np.float64], seen: Collection[int], penalty: float) -> None:
    """Move the scores of ``seen``, in place, away from likely for a ``penalty`` above 1."""
    ids = np.fromiter(set(seen), np.intp)
    values = scores[ids]
    scores[ids] = np.where(values > 0, values / penalty, values * penalty)


def _highest(scores: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Indices of the ``count`` highest scores, highest first, lower indices first on a tie."""
    count = min(count, len(scores))
    least = np.partition(scores, -count)[-count]
    likely = np.flatnonzero(scores >= least)
    return likely[np.argsort(-scores[likely], kind="stable")][:count]


def _nucleus(weights: NDArray[np.float64], top_p: float) -> NDArray[np.intp]:
    """Smallest set of heaviest indices whose share reaches ``top_p``, heaviest first.

    All weights below ``(1 - top_p) / n`` of the total together hold less than ``1 - top_p`` of
    it, so none of them can be needed, and only the others are sorted.
    """
    total = weights.sum()
    likely = np.flatnonzero(weights >= (1 - top_p) * total / len(weights))
    order = likely[np.argsort(-weights[likely], kind="stable")]
    count = int(np.searchsorted(np.cumsum(weights[order]), top_p * total)) + 1
    return order[:count]


def invert(mass: NDArray[np.float64], target: float) -> int:
    """First index of cumulated weights (n,) beyond ``target``; never one of weight zero.

    Rounding may take the target to the total, which nothing is beyond, or below zero.
    """
    last = np.searchsorted(mass, mass[-1])
    return int(min(np.searchsorted(mass, max(target, 0.0), side="right"), last))


def check_logits(largest: NDArray[np.float32] | np.float32) -> None:
    """Refuse logits to choose from by their maxima, which are NaN where any of them is.

    Raises
    ------
    NumericalError
        Unless all maxima are finite.
    """
    if not np.isfinite(largest).all():
        raise NumericalError(
            "the model's logits are not finite, so no token can be chosen: its weights are damaged "
            "or its activations overflow; fetch the model again, or compress the original again"
        )
