"""What models say about each token of a text: losses, and distances to another model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import SILENT, Progress
from lrc.base.threads import chunks, ordered_map, resolve_threads
from lrc.errors import SpecError
from lrc.measure.divergence import Prediction
from lrc.measure.predictions import Predictor, Rows, activations_of, prediction_rows

SCORES = ("second-half", "all")

#: Windows that run through the blocks together, on one thread.
WINDOWS = 2
#: Tokens whose activations exist at the same time, for each model: about, and at least WINDOWS.
TOKENS = 1 << 15
#: Positions whose logits exist at the same time, for each model and thread.
ROWS = 128


@dataclass(frozen=True, eq=False)
class Scores:
    """Figures of the scored tokens of windows, each (N, tokens of a window) float64.

    ``loss`` is -log p of the token in nats. Those about the other model are None when there is
    none: ``against_loss`` its loss, ``divergence`` KL(other || model) in nats, ``same_top`` 1
    where both models' likeliest token is the same and else 0. ``activations``, "i8" or "f32",
    are those that the model was run on.
    """

    loss: NDArray[np.float64]
    against_loss: NDArray[np.float64] | None = None
    divergence: NDArray[np.float64] | None = None
    same_top: NDArray[np.float64] | None = None
    activations: str = "f32"

    def first(self, windows: int) -> Scores:
        """The scores of the first ``windows`` windows."""
        return Scores(
            self.loss[:windows],
            None if self.against_loss is None else self.against_loss[:windows],
            None if self.divergence is None else self.divergence[:windows],
            None if self.same_top is None else self.same_top[:windows],
            self.activations,
        )


def score_windows(
    models: Sequence[Predictor],
    windows: NDArray[np.integer],
    score: str = "second-half",
    against: Predictor | None = None,
    *,
    activations: str = "i8",
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
    activations : str
        "i8": compressed models are run as `lrc.generate` runs them, on integers where it does:
        the tokens before the first that counts as a prompt, then token by token. "f32": on
        float32 activations, whole windows at once. Dense models always are.
    threads : int or None
        Windows worked on at the same time; never changes the result.
    progress : Progress

    Raises
    ------
    SpecError
        When ``windows`` is empty, too short or longer than a model's context, or ``score`` or
        ``activations`` is unknown.

    Notes
    -----
    Memory: on float32 activations one block of one model at a time, in the type it is stored
    in, and 4 bytes a channel for each of about `TOKENS` tokens and each model; longer texts go
    through the blocks in several turns. A model on integers is held packed, whole.
    """
    if score not in SCORES:
        raise SpecError(f"score {score!r} is unknown; use one of {', '.join(SCORES)}")
    if windows.ndim != 2 or windows.shape[0] < 1 or windows.shape[1] < 2:
        raise SpecError(
            f"windows of shape {windows.shape} cannot be scored; "
            "give at least one window of at least 2 tokens"
        )
    first = windows.shape[1] // 2 if score == "second-half" else 1
    everyone = [*models, *(() if against is None else (against,))]
    kinds = [activations_of(model, activations) for model in everyone]
    workers = resolve_threads(threads)
    results: list[NDArray[np.float64]] = []
    for group in chunks(len(windows), max(TOKENS // windows.shape[1], WINDOWS)):
        parts = [windows[group][part] for part in chunks(len(windows[group]), WINDOWS)]
        rows = [
            prediction_rows(model, kind, parts, first, workers, progress)
            for model, kind in zip(everyone, kinds, strict=True)
        ]
        targets = [part[:, first:] for part in parts]
        jobs = list(zip(targets, *rows, strict=True))
        with progress.bar("scoring", len(windows[group]), "window") as advance:
            for result in ordered_map(lambda job: _score(len(models), *job), jobs, workers):
                results.append(result)
                advance(result.shape[1])
    figures = np.concatenate(results, axis=1)
    pairs = list(zip(figures, kinds, strict=False))
    if against is None:
        return tuple(Scores(own[..., 0], activations=kind) for own, kind in pairs)
    columns = [(tuple(np.moveaxis(own, -1, 0)), kind) for own, kind in pairs]
    return tuple(
        Scores(loss, other, divergence, same, kind)
        for (loss, other, divergence, same), kind in columns
    )


def _score(count: int, targets: NDArray[np.integer], *rows: Rows) -> NDArray[np.float64]:
    """Per-token figures of targets (B, tokens) under ``count`` models and, if any, the other.

    Returns
    -------
    (models, B, tokens, 4) float64
        Loss, other model's loss, KL(other || model), same top token; the last three are zero
        without another model.
    """
    flat = targets.reshape(-1)
    figures = np.zeros((count, len(flat), 4))
    for part in chunks(len(flat), ROWS):
        ps = [Prediction(logits(part)) for logits in rows]
        q = ps.pop() if len(ps) > count else None
        for own, p in zip(figures, ps, strict=True):
            own[part, 0] = p.loss(flat[part])
        if q is not None:
            figures[:, part, 1] = q.loss(flat[part])
            figures[:, part, 3] = [p.top == q.top for p in ps]
            figures[:, part, 2] = [q.divergence(p) for p in ps]
    return figures.reshape(count, *targets.shape, 4)
