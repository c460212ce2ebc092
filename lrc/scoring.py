"""What models say about each token of a text: losses, and distances to another model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from lrc.errors import SpecError
from lrc.progress import SILENT, Progress
from lrc.threads import chunks, ordered_map, resolve_threads

if TYPE_CHECKING:
    from lrc.nn.linear import Array

SCORES = ("second-half", "all")

#: Windows that run through the blocks together, on one thread.
WINDOWS = 2
#: Positions whose logits exist at the same time, for each model and thread.
ROWS = 128


class Predictor(Protocol):
    """What evaluation needs of a model."""

    def hidden(self, ids: NDArray[np.integer]) -> Array:
        """Residual stream (B, T, d) of token ids (B, T)."""
        ...

    def head(self, h: Array) -> Array:
        """Logits (..., vocab) of the residual stream (..., d)."""
        ...


@dataclass(frozen=True, eq=False)
class Scores:
    """Figures of the scored tokens of windows, each (N, tokens of a window) float64.

    ``loss`` is -log p of the token in nats. Those about the other model are None when there is
    none: ``against_loss`` its loss, ``divergence`` KL(other || model) in nats, ``same_top`` 1
    where both models' likeliest token is the same and else 0.
    """

    loss: NDArray[np.float64]
    against_loss: NDArray[np.float64] | None = None
    divergence: NDArray[np.float64] | None = None
    same_top: NDArray[np.float64] | None = None

    def first(self, windows: int) -> Scores:
        """The scores of the first ``windows`` windows."""
        figures = (self.loss, self.against_loss, self.divergence, self.same_top)
        return Scores(*(None if x is None else x[:windows] for x in figures))  # type: ignore[arg-type]


def score_windows(
    models: Sequence[Predictor],
    windows: NDArray[np.integer],
    score: str = "second-half",
    against: Predictor | None = None,
    *,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> tuple[Scores, ...]:
    """Scores of each model on the same token windows.

    Parameters
    ----------
    models : sequence of Predictor
    windows : (N, ctx) integers
    score : {"second-half", "all"}
        Which tokens count: those at positions ``ctx // 2`` and later, or all but the first.
        Each is predicted from all tokens before it in its window.
    against : Predictor or None
        The model to compare with, usually the uncompressed one.
    threads : int or None
        Windows worked on at the same time; never changes the result.
    progress : Progress

    Raises
    ------
    SpecError
        When ``windows`` is empty or too short, or ``score`` is unknown.
    """
    if score not in SCORES:
        raise SpecError(f"score {score!r} is unknown; use one of {', '.join(SCORES)}")
    if windows.ndim != 2 or windows.shape[0] < 1 or windows.shape[1] < 2:
        raise SpecError(
            f"windows of shape {windows.shape} cannot be scored; "
            "give at least one window of at least 2 tokens"
        )
    first = windows.shape[1] // 2 if score == "second-half" else 1
    job = partial(_score, models, against, first)
    parts = [windows[part] for part in chunks(len(windows), WINDOWS)]
    results: list[NDArray[np.float64]] = []
    with progress.bar("evaluating", len(windows), "window") as advance:
        for result in ordered_map(job, parts, resolve_threads(threads)):
            results.append(result)
            advance(result.shape[1])
    figures = np.concatenate(results, axis=1)
    compared = 1 if against is None else figures.shape[-1]
    return tuple(Scores(*np.moveaxis(own[..., :compared], -1, 0)) for own in figures)


def _score(
    models: Sequence[Predictor],
    against: Predictor | None,
    first: int,
    windows: NDArray[np.integer],
) -> NDArray[np.float64]:
    """Per-token figures of windows (B, ctx) whose targets start at position ``first``.

    Returns
    -------
    (models, B, tokens, 4) float64
        Loss, other model's loss, KL(other || model), same top token; the last three are zero
        without another model.
    """
    targets = windows[:, first:].reshape(-1)
    streams = [_before_targets(model, windows, first) for model in models]
    other = None if against is None else _before_targets(against, windows, first)
    figures = np.zeros((len(models), len(targets), 4))
    for part in chunks(len(targets), ROWS):
        ps = [_Prediction(model.head(h[part])) for model, h in zip(models, streams, strict=True)]
        for own, p in zip(figures, ps, strict=True):
            own[part, 0] = p.loss(targets[part])
        if against is not None and other is not None:
            q = _Prediction(against.head(other[part]))
            figures[:, part, 1] = q.loss(targets[part])
            figures[:, part, 3] = [p.top == q.top for p in ps]
            figures[:, part, 2] = _divergences(q, ps)
    return figures.reshape(len(models), len(windows), -1, 4)


def _before_targets(model: Predictor, windows: NDArray[np.integer], first: int) -> Array:
    """Residual stream one position before each target, (B * tokens, d)."""
    h = model.hidden(windows)[:, first - 1 : -1]
    return h.reshape(-1, h.shape[-1])


class _Prediction:
    """Next-token distributions of some rows.

    ``logits`` (work) is shifted in place so that each row's maximum is 0; ``log_total`` is the
    float64 logarithm of each row's sum of exponentials.
    """

    def __init__(self, logits: Array) -> None:
        self.top = logits.argmax(axis=-1)
        logits -= logits.max(axis=-1, keepdims=True)
        self.logits = logits
        self.log_total = np.log(np.exp(logits).sum(axis=-1, dtype=np.float64))

    def loss(self, targets: NDArray[np.integer]) -> NDArray[np.float64]:
        """-log p of each row's target, in nats."""
        loss: NDArray[np.float64] = self.log_total - self.logits[np.arange(len(targets)), targets]
        return loss


def _divergences(q: _Prediction, ps: Sequence[_Prediction]) -> list[NDArray[np.float64]]:
    """KL(q || p) of each row in nats, for every p; uses up the logits of all (work)."""
    for p in ps:
        if q.logits.shape != p.logits.shape:
            raise SpecError(
                f"the models' vocabularies have {p.logits.shape[1]} and {q.logits.shape[1]} "
                "entries; compare a model with the one it was made from"
            )
        np.subtract(q.logits, p.logits, out=p.logits)
    weights = np.exp(q.logits, out=q.logits)
    means = [np.einsum("ij,ij->i", weights, p.logits, dtype=np.float64) for p in ps]
    return [
        mean * np.exp(-q.log_total) - q.log_total + p.log_total
        for mean, p in zip(means, ps, strict=True)
    ]
