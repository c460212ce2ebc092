"""How well a model predicts a text: alone, against its original, against another compression."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import SILENT, Progress
from lrc.errors import SpecError
from lrc.measure.bootstrap import Interval, exp, exp_interval, interval, resampled_means
from lrc.measure.predictions import Predictor
from lrc.measure.scoring import SCORES, Scores, score_windows
from lrc.run.text import TokenIds, Tokenizer, token_windows

__all__ = [
    "SCORES",
    "Comparison",
    "Evaluation",
    "Predictor",
    "compare",
    "comparison",
    "evaluation",
    "perplexity",
    "text_windows",
]


@dataclass(frozen=True)
class Evaluation:
    """Averages over the scored tokens, with standard errors and intervals over windows.

    Losses are in nats. The standard errors treat windows as independent draws; with a single
    window they treat its tokens so, which is too optimistic. Fields about the other model are None
    when there is none: ``kl_divergence`` is KL(other || model), ``top1_agreement`` the share of
    tokens where both models' likeliest token is the same, ``against_perplexity`` the other model's
    perplexity on the same tokens, ``perplexity_ratio`` the model's perplexity over it.
    ``activations`` are those the model was run on: "i8", integers, as `lrc.generate` runs
    compressed models, or "f32". The intervals hold 95 % by a paired bootstrap over windows
    (`lrc.measure.bootstrap`); they are None with a single window.
    """

    perplexity: float
    perplexity_stderr: float
    kl_divergence: float | None
    kl_stderr: float | None
    top1_agreement: float | None
    tokens: int
    against_perplexity: float | None = None
    against_perplexity_stderr: float | None = None
    perplexity_ratio: float | None = None
    perplexity_ratio_interval: Interval | None = None
    kl_interval: Interval | None = None
    activations: str = "f32"


@dataclass(frozen=True)
class Comparison:
    """Model a against model b on the same windows; differences are a - b, ratios a / b.

    ``kl_difference`` is the difference of their divergences from a third model, None when there is
    none. ``activations`` and ``other_activations`` are what each was run on. The intervals hold 95
    % by a paired bootstrap over windows; they are None with a single window. An interval that
    leaves out 0 (or 1, for the ratio) is a difference that this text shows.
    """

    perplexity: float
    other_perplexity: float
    perplexity_difference: float
    perplexity_difference_interval: Interval | None
    perplexity_ratio: float
    perplexity_ratio_interval: Interval | None
    kl_difference: float | None
    kl_difference_interval: Interval | None
    windows: int
    tokens: int
    activations: str = "f32"
    other_activations: str = "f32"


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
    activations: str = "i8",
    threads: int | None = None,
    progress: Progress = SILENT,
) -> Evaluation:
    """Perplexity of ``model`` on token windows, and its distance to another model.

    Parameters
    ----------
    model : Predictor
        Such as `Model`.
    windows : (N, ctx) integers
    score : {"second-half", "all"}
        Which tokens count: those at positions ``ctx // 2`` and later, or all but the first.
        Each is predicted from all tokens before it in its window.
    against : Predictor or None
        The model to compare with, usually the uncompressed one.
    activations : {"i8", "f32"}
        "i8": compressed models are run as `lrc.generate` runs them: tokens before the first
        that counts as a prompt, then token by token on integers. "f32": on float32 activations,
        whole windows at once, which is faster for large models. Dense models always are.
    threads : int or None
        Windows worked on at the same time; never changes the result.
    progress : Progress

    Raises
    ------
    SpecError
        When ``windows`` is empty, too short or longer than a model's context, or ``score`` or
        ``activations`` is unknown.
    """
    made = score_windows(
        [model], windows, score, against,
        activations=activations, threads=threads, progress=progress,
    )  # fmt: skip
    return evaluation(made[0])


def compare(
    a: Predictor,
    b: Predictor,
    windows: NDArray[np.integer],
    score: str = "second-half",
    against: Predictor | None = None,
    *,
    activations: str = "i8",
    threads: int | None = None,
    progress: Progress = SILENT,
) -> Comparison:
    """Which of two models predicts the windows better, and how sure that is.

    Two compressions of one model stumble over the same words, so their difference is known far
    better than either perplexity: the bootstrap draws windows, not figures.

    Parameters
    ----------
    a, b : Predictor
        Models with the same tokenizer.
    windows : (N, ctx) integers
    score, activations, threads, progress
        As for :func:`perplexity`.
    against : Predictor or None
        The model that both were made from: adds the difference of the divergences from it.

    Raises
    ------
    SpecError
        As :func:`perplexity`.

    Examples
    --------
    >>> import lrc
    >>> a, b, original = (lrc.load(p).model for p in ("a", "b", "model"))  # doctest: +SKIP
    >>> found = lrc.compare(a, b, windows, against=original)  # doctest: +SKIP
    >>> found.kl_difference, found.kl_difference_interval  # doctest: +SKIP
    (-0.013, (-0.017, -0.009))
    """
    made = score_windows(
        [a, b], windows, score, against,
        activations=activations, threads=threads, progress=progress,
    )  # fmt: skip
    return comparison(*made)


def evaluation(scores: Scores) -> Evaluation:
    """Averages, standard errors and intervals of one model's scores."""
    ppl, ppl_error = _exp_mean(scores.loss)
    tokens = int(scores.loss.size)
    other, divergence, same = scores.against_loss, scores.divergence, scores.same_top
    if other is None or divergence is None or same is None:
        return Evaluation(ppl, ppl_error, None, None, None, tokens, activations=scores.activations)
    other_ppl, other_error = _exp_mean(other)
    excess = scores.loss - other
    draws = resampled_means(np.stack([excess.mean(axis=1), divergence.mean(axis=1)], axis=1))
    return Evaluation(
        perplexity=ppl,
        perplexity_stderr=ppl_error,
        kl_divergence=float(divergence.mean()),
        kl_stderr=_stderr(divergence),
        top1_agreement=float(same.mean()),
        tokens=tokens,
        against_perplexity=other_ppl,
        against_perplexity_stderr=other_error,
        perplexity_ratio=exp(excess.mean()),
        perplexity_ratio_interval=exp_interval(interval(draws[:, 0], len(excess))),
        kl_interval=interval(draws[:, 1], len(excess)),
        activations=scores.activations,
    )


def comparison(a: Scores, b: Scores) -> Comparison:
    """Differences of two models' scores on the same windows, with their intervals.

    Raises
    ------
    SpecError
        When the scores are not of the same windows.
    """
    if a.loss.shape != b.loss.shape:
        raise SpecError(
            f"scores of shapes {a.loss.shape} and {b.loss.shape} cannot be paired; "
            "score both models on the same windows"
        )
    count = len(a.loss)
    columns = [a.loss.mean(axis=1), b.loss.mean(axis=1)]
    kl = None
    if a.divergence is not None and b.divergence is not None:
        kl = (a.divergence - b.divergence).mean(axis=1)
        columns.append(kl)
    draws = resampled_means(np.stack(columns, axis=1))
    difference = (a.loss - b.loss).mean()
    with np.errstate(over="ignore"):
        ppl, other = np.exp(a.loss.mean()), np.exp(b.loss.mean())
        drawn = _difference(np.exp(draws[:, 0]), np.exp(draws[:, 1]))
    return Comparison(
        perplexity=float(ppl),
        other_perplexity=float(other),
        perplexity_difference=float(_difference(ppl, other)),
        perplexity_difference_interval=interval(drawn, count),
        perplexity_ratio=exp(difference),
        perplexity_ratio_interval=exp_interval(interval(draws[:, 0] - draws[:, 1], count)),
        kl_difference=None if kl is None else float(kl.mean()),
        kl_difference_interval=None if kl is None else interval(draws[:, 2], count),
        windows=count,
        tokens=int(a.loss.size),
        activations=a.activations,
        other_activations=b.activations,
    )


def _difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """``a - b``, 0 where both are equally infinite."""
    with np.errstate(invalid="ignore"):
        return np.where(a == b, 0.0, a - b)


def _exp_mean(loss: NDArray[np.float64]) -> tuple[float, float]:
    """exp(mean) and its standard error by the delta method."""
    value = exp(loss.mean())
    return value, value * _stderr(loss)


def _stderr(x: NDArray[np.float64]) -> float:
    """Estimate the standard error of the mean of (windows, tokens), from the windows' means."""
    draws: Sequence[float] = x.mean(axis=1) if len(x) > 1 else x[0]
    if len(draws) < 2:
        return float("nan")
    return float(np.std(draws, ddof=1) / np.sqrt(len(draws)))
