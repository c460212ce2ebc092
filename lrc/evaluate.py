"""How well a model predicts a text, alone and against another model."""

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
from lrc.tokens import TokenIds, Tokenizer, token_windows

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


@dataclass(frozen=True)
class Evaluation:
    """Averages over the scored tokens, with standard errors over windows.

    Losses are in nats. The standard errors treat windows as independent draws; with a single
    window they treat its tokens so, which is too optimistic. Fields about the other model are
    None when there is none: ``kl_divergence`` is KL(other || model), ``top1_agreement`` the
    share of tokens where both models' likeliest token is the same, ``against_perplexity`` the
    other model's perplexity on the same tokens.
    """

    perplexity: float
    perplexity_stderr: float
    kl_divergence: float | None
    kl_stderr: float | None
    top1_agreement: float | None
    tokens: int
    against_perplexity: float | None = None
    against_perplexity_stderr: float | None = None


def text_windows(tokenizer: Tokenizer, text: str, ctx: int, limit: int | None = None) -> TokenIds:
    """Consecutive non-overlapping windows of a text, without BOS.

    Parameters
    ----------
    tokenizer : Tokenizer
    text : str
    ctx : int
        Tokens a window.
    limit : int or None
        At most this many windows.

    Returns
    -------
    (N, ctx) int32, N >= 1

    Raises
    ------
    CalibrationError
        When the text is shorter than one window.
    """
    return token_windows(tokenizer.encode(text), ctx, limit)


def perplexity(
    model: Predictor,
    windows: NDArray[np.integer],
    score: str = "second-half",
    against: Predictor | None = None,
    *,
    threads: int | None = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """Perplexity of ``model`` on token windows, and its distance to another model.

    Parameters
    ----------
    model : Predictor
        Such as `LlamaModel`.
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
    job = partial(_score_windows, model, against, first)
    parts = [windows[part] for part in chunks(len(windows), WINDOWS)]
    results: list[NDArray[np.float64]] = []
    with progress.bar("evaluating", len(windows), "window") as advance:
        for result in ordered_map(job, parts, resolve_threads(threads)):
            results.append(result)
            advance(len(result))
    return _summary(np.concatenate(results), against is not None)


def _score_windows(
    model: Predictor, against: Predictor | None, first: int, windows: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Per-token figures of windows (B, ctx) whose targets start at position ``first``.

    Returns
    -------
    (B, tokens, 4) float64
        Loss, other model's loss, KL(other || model), same top token; the last three are zero
        without another model.
    """
    targets = windows[:, first:].reshape(-1)
    h = _before_targets(model, windows, first)
    other = None if against is None else _before_targets(against, windows, first)
    figures = np.zeros((len(targets), 4))
    for part in chunks(len(targets), ROWS):
        p = _Prediction(model.head(h[part]))
        figures[part, 0] = p.loss(targets[part])
        if against is not None and other is not None:
            q = _Prediction(against.head(other[part]))
            figures[part, 1] = q.loss(targets[part])
            figures[part, 3] = p.top == q.top
            figures[part, 2] = _divergence(q, p)
    return figures.reshape(len(windows), -1, 4)


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


def _divergence(q: _Prediction, p: _Prediction) -> NDArray[np.float64]:
    """KL(q || p) of each row in nats; uses up the logits of both (work)."""
    if q.logits.shape != p.logits.shape:
        raise SpecError(
            f"the models' vocabularies have {p.logits.shape[1]} and {q.logits.shape[1]} entries; "
            "compare a model with the one it was made from"
        )
    difference = np.subtract(q.logits, p.logits, out=p.logits)
    weights = np.exp(q.logits, out=q.logits)
    mean = np.einsum("ij,ij->i", weights, difference, dtype=np.float64)
    divergence: NDArray[np.float64] = mean * np.exp(-q.log_total) - q.log_total + p.log_total
    return divergence


def _summary(figures: NDArray[np.float64], compared: bool) -> Evaluation:
    """Averages and standard errors of (windows, tokens, 4) figures."""
    loss, other_loss, divergence, same = (figures[..., i] for i in range(4))
    ppl, ppl_error = _exp_mean(loss)
    tokens = int(loss.size)
    if not compared:
        return Evaluation(ppl, ppl_error, None, None, None, tokens)
    other_ppl, other_error = _exp_mean(other_loss)
    return Evaluation(
        perplexity=ppl,
        perplexity_stderr=ppl_error,
        kl_divergence=float(divergence.mean()),
        kl_stderr=_stderr(divergence),
        top1_agreement=float(same.mean()),
        tokens=tokens,
        against_perplexity=other_ppl,
        against_perplexity_stderr=other_error,
    )


def _exp_mean(loss: NDArray[np.float64]) -> tuple[float, float]:
    """exp(mean) and its standard error by the delta method."""
    with np.errstate(over="ignore"):
        value = float(np.exp(loss.mean()))
    return value, value * _stderr(loss)


def _stderr(x: NDArray[np.float64]) -> float:
    """Estimate the standard error of the mean of (windows, tokens), from the windows' means."""
    draws: Sequence[float] = x.mean(axis=1) if len(x) > 1 else x[0]
    if len(draws) < 2:
        return float("nan")
    return float(np.std(draws, ddof=1) / np.sqrt(len(draws)))
