"""How the next token is chosen from a model's logits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.errors import SpecError

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Sampler:
    """How the next token is chosen.

    ``temperature`` 0 takes the likeliest token (the lowest id on a tie); ``top_p`` below 1 keeps
    the smallest set of likeliest tokens whose probabilities reach it (Holtzman et al., 2020).
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 20261122

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise SpecError(f"temperature={self.temperature} must be at least 0")
        if not 0 < self.top_p <= 1:
            raise SpecError(f"top_p={self.top_p} must lie in (0, 1]")
        if self.seed < 0:
            raise SpecError(f"seed={self.seed} must be at least 0")

    def pick(self, logits: Logits, rng: np.random.Generator) -> int:
        """Choose a token id from logits (vocab,); one uniform draw unless greedy."""
        if self.temperature == 0:
            return int(logits.argmax())
        shifted = logits.astype(np.float64) - logits.max()
        weights = np.exp(shifted / self.temperature)
        if self.top_p == 1:
            return _inverse(weights, rng.random())
        kept = _nucleus(weights, self.top_p)
        return int(kept[_inverse(weights[kept], rng.random())])


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


def _inverse(weights: NDArray[np.float64], u: float) -> int:
    """Index at the share ``u`` in [0, 1) of the cumulated weights."""
    mass = np.cumsum(weights)
    return min(int(np.searchsorted(mass, u * mass[-1], side="right")), len(mass) - 1)
