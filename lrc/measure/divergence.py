"""Next-token distributions, and how far they are from one another."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lrc.errors import SpecError

if TYPE_CHECKING:
    from lrc.nn.linear import Array


class Prediction:
    """Next-token distributions of some rows.

    Parameters
    ----------
    logits : (rows, vocab) float32 (work)
        Shifted in place so that each row's maximum is 0.

    Attributes
    ----------
    top : (rows,) integers
        The likeliest token of each.
    log_total : (rows,) float64
        The logarithm of each row's sum of exponentials, after the shift.
    """

    def __init__(self, logits: Array) -> None:
        self.top = logits.argmax(axis=-1)
        logits -= logits.max(axis=-1, keepdims=True)
        self._logits = logits
        self.log_total = np.log(np.exp(logits).sum(axis=-1, dtype=np.float64))

    def loss(self, targets: NDArray[np.integer]) -> NDArray[np.float64]:
        """-log p of each row's target, in nats."""
        loss: NDArray[np.float64] = self.log_total - self._logits[np.arange(len(targets)), targets]
        return loss

    def divergence(self, other: Prediction) -> NDArray[np.float64]:
        """KL(self || other) of each row in nats; uses up the other's logits (work).

        Raises
        ------
        SpecError
            The two are over different vocabularies.
        """
        mine, theirs = self._logits, other._logits
        if mine.shape != theirs.shape:
            raise SpecError(
                f"the models' vocabularies have {theirs.shape[1]} and {mine.shape[1]} "
                "entries; compare a model with the one it was made from"
            )
        np.subtract(mine, theirs, out=theirs)
        mean = np.einsum("ij,ij->i", self._weights, theirs, dtype=np.float64)
        kl: NDArray[np.float64] = mean * np.exp(-self.log_total) - self.log_total + other.log_total
        return kl

    @cached_property
    def _weights(self) -> Array:
        """Probabilities, but for a factor a row."""
        weights: Array = np.exp(self._logits)
        return weights
