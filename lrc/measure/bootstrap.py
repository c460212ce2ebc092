"""Intervals by the bootstrap over windows of text."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

#: Lower and upper end.
Interval = tuple[float, float]

RESAMPLES = 2000
LEVEL = 0.95
SEED = 20261122
#: Values gathered at the same time.
_GATHERED = 1 << 20


def resampled_means(
    x: NDArray[np.float64], resamples: int = RESAMPLES, seed: int = SEED
) -> NDArray[np.float64]:
    """Means of windows drawn with replacement.

    All columns of a resample are of the same windows, so whatever is made of two columns is
    paired: the difficulty of the text, common to both, cancels.

    Parameters
    ----------
    x : (N, k) float64
        One row a window.
    resamples : int
    seed : int

    Returns
    -------
    (resamples, k) float64
        The same for the same ``x``, always.
    """
    count, columns = x.shape
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, columns))
    step = max(1, _GATHERED // max(1, count * columns))
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        means[start : start + size] = x[rng.integers(count, size=(size, count))].mean(axis=1)
    return means


def interval(
    draws: NDArray[np.float64], windows: int, level: float = LEVEL
) -> tuple[float, float] | None:
    """Interval of a statistic from its resampled values.

    The percentile interval, expanded for few windows: resampling N windows shows a spread that
    is too small by sqrt((N - 1) / N) and knows nothing of Student's t, so the quantiles are
    moved outward until a mean of normal windows would be covered as it should be (Hesterberg
    2015, "What teachers should know about the bootstrap", section 4.2).

    Parameters
    ----------
    draws : (resamples,) float64
    windows : int
        Windows that were resampled.
    level : float
        Wanted coverage.

    Returns
    -------
    (low, high), or None
        None with fewer than two windows: they say nothing about their spread.
    """
    if windows < 2:
        return None
    from scipy.special import ndtr, stdtrit

    t = stdtrit(windows - 1, (1 + level) / 2)
    tail = float(ndtr(-t * math.sqrt(windows / (windows - 1))))
    with np.errstate(invalid="ignore"):
        low, high = np.quantile(draws, (tail, 1 - tail))
    return float(low), float(high)


def ratio_interval(
    sums: NDArray[np.float64], counts: NDArray[np.float64], level: float = LEVEL
) -> Interval | None:
    """Interval of sum(sums) / sum(counts) by drawing pairs; draws that count nothing are left out.

    Parameters
    ----------
    sums, counts : (N,) float64
        Of each text.
    level : float
        As of :func:`interval`.
    """
    above, below = resampled_means(np.stack([sums, counts], axis=1)).T
    drawn = below > 0
    return interval(above[drawn] / below[drawn], len(sums), level)


def exp(x: float) -> float:
    """exp(x), infinite where it overflows."""
    with np.errstate(over="ignore"):
        return float(np.exp(x))


def exp_interval(ends: Interval | None) -> Interval | None:
    """The interval of exp of what has the interval ``ends``."""
    return None if ends is None else (exp(ends[0]), exp(ends[1]))
