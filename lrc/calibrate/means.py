"""Means over the inputs of a site: of magnitudes, for recipes that weigh by them, and of values."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from lrc.calibrate.site_rows import site_rows
from lrc.calibrate.streams import Stream

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


def mean_magnitudes(student: Stream) -> F64:
    """E|z| of each input of the current site, float64 (n,), over the tokens that H is of.

    Tokens of an expert count by their routing weights; those that are not finite are left out.
    Zeros where there are none. Cost T n.
    """
    return _mean(student, np.abs, lambda shares: shares)


def mean_inputs(student: Stream, token_weights: Sequence[F32] | None = None) -> F64:
    """E[z] of each input, float64 (n,), by the weights that tokens have in H; see `site_moment`."""
    return _mean(student, lambda z: z, np.square, token_weights)


def sums_of_squares(student: Stream) -> tuple[F64, float]:
    """The sum of z^2 of each input, float64 (n,), and over how many tokens it is."""
    return _sum(student, np.square, np.square)


def _mean(
    student: Stream,
    of: Callable[[F32], F32],
    counted: Callable[[F32], F32],
    token_weights: Sequence[F32] | None = None,
) -> F64:
    total, count = _sum(student, of, counted, token_weights)
    return total / max(count, np.finfo(np.float64).tiny)


def _sum(
    student: Stream,
    of: Callable[[F32], F32],
    counted: Callable[[F32], F32],
    token_weights: Sequence[F32] | None = None,
) -> tuple[F64, float]:
    total = np.zeros(student.inputs[0].shape[-1])
    count = 0.0
    for rows in site_rows(student, token_weights):
        finite = np.isfinite(rows.z.sum(axis=1, dtype=np.float64))
        weights = np.ones(len(rows.z)) if rows.weights is None else counted(rows.weights)
        weights = np.where(finite, weights, 0.0)
        total += weights @ np.where(finite[:, None], of(rows.z), 0.0)
        count += float(weights.sum())
    return total, count
