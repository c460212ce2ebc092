"""KL divergence to a teacher as a loss: its value and its gradient at the logits, rows at a time.

With p the teacher's distribution and q the student's, the gradient of KL(p || q) at the student's
logits is q - p. The teacher is live, or its most likely tokens are stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrc.errors import SpecError
from lrc.refine.vjp import Array


def log_softmax(logits: Array) -> Array:
    """Log probabilities along the last axis; ``logits`` (work) are changed in place."""
    logits -= logits.max(axis=-1, keepdims=True)
    total = np.exp(logits).sum(axis=-1, keepdims=True, dtype=np.float64)
    logits -= np.log(total)
    return logits


def _check_vocabulary(mine: int, theirs: int) -> None:
    if mine != theirs:
        raise SpecError(
            f"the models' vocabularies have {mine} and {theirs} entries; tune a model against the "
            "one it was made from"
        )


@dataclass(frozen=True)
class LiveTeacher:
    """The mean of KL(teacher || student) over scored tokens, from the teacher's own logits.

    Attributes
    ----------
    head : function
        Logits (rows, vocab), fresh, of the teacher's last residual streams (rows, hidden).
    streams : sequence of (B, T, hidden)
        Those of each part of the batch.
    scored : slice
        Which tokens of each sequence count.
    weight : float
        What each row's divergence is multiplied by: one over the rows of the batch for a mean.
    """

    head: Callable[[Array], Array]
    streams: Sequence[Array]
    weight: float
    scored: slice = field(default_factory=lambda: slice(None))

    def __call__(self, part: int, rows: slice, logits: Array) -> tuple[float, Array]:
        """The weighed sum of some rows' divergences, and its gradient at the logits (work)."""
        return self.at(part, rows, logits)

    def at(
        self, part: int, rows: slice | NDArray[np.integer], logits: Array
    ) -> tuple[float, Array]:
        """The same of any rows."""
        h = self.streams[part][:, self.scored]
        theirs = self.head(np.ascontiguousarray(h).reshape(-1, h.shape[-1])[rows])
        _check_vocabulary(logits.shape[-1], theirs.shape[-1])
        log_p, log_q = log_softmax(theirs), log_softmax(logits)
        p = np.exp(log_p)
        log_p -= log_q
        divergence = float(np.einsum("ij,ij->", p, log_p, dtype=np.float64))
        gradient = np.exp(log_q, out=log_q)
        gradient -= p
        gradient *= gradient.dtype.type(self.weight)
        return self.weight * divergence, gradient


class TopTokens(NamedTuple):
    """A teacher's k most likely tokens of some rows: 8 k bytes a row.

    ``ids`` (rows, k) int32, and ``log_p`` (rows, k) float32, their log probabilities; what is left
    is the probability of all others.
    """

    ids: NDArray[np.int32]
    log_p: NDArray[np.float32]


def top_tokens(logits: Array, k: int) -> TopTokens:
    """The ``k`` most likely tokens of rows of logits (rows, vocab), which stay as they are."""
    log_p = log_softmax(logits.copy())
    ids = np.argpartition(-log_p, k - 1, axis=-1)[:, :k] if k < log_p.shape[-1] else None
    if ids is None:
        ids = np.broadcast_to(np.arange(log_p.shape[-1]), log_p.shape)
    ids = np.sort(ids, axis=-1)
    return TopTokens(ids.astype(np.int32), np.take_along_axis(log_p, ids, -1).astype(np.float32))


@dataclass(frozen=True)
class StoredTeacher:
    """The same divergence where all but the stored tokens are one outcome: at most the whole one.

    With r and s the teacher's and the student's probability of all others, the gradient is
    ``q - p`` at the stored tokens and ``q (1 - r / s)`` at the others.

    Attributes
    ----------
    tokens : sequence of TopTokens
        Of each part of the batch, of the rows of its scored tokens.
    weight, scored
        As of `LiveTeacher`.
    """

    tokens: Sequence[TopTokens]
    weight: float
    scored: slice = field(default_factory=lambda: slice(None))

    def __call__(self, part: int, rows: slice, logits: Array) -> tuple[float, Array]:
        """The weighed sum of some rows' divergences, and its gradient at the logits (work)."""
        ids, log_p = self.tokens[part].ids[rows], self.tokens[part].log_p[rows]
        p = np.exp(log_p.astype(np.float64))
        left = np.clip(1 - p.sum(axis=-1, keepdims=True), 0, 1)
        log_q = log_softmax(logits)
        own = np.take_along_axis(log_q, ids, -1).astype(np.float64)
        q = np.exp(log_q, out=log_q)
        inside = np.exp(own)
        np.put_along_axis(q, ids, 0, -1)
        others = q.sum(axis=-1, keepdims=True, dtype=np.float64)
        tiny = np.finfo(np.float64).tiny
        ratio = left / np.maximum(others, tiny)
        divergence = float((p * (log_p - own)).sum())
        divergence += float((left * np.log(np.maximum(ratio, tiny))).sum())
        q *= 1 - ratio
        np.put_along_axis(q, ids, (inside - p).astype(q.dtype), -1)
        q *= q.dtype.type(self.weight)
        return self.weight * divergence, q
