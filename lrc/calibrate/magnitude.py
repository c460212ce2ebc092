"""Mean magnitudes of the inputs of a site, for recipes that weigh channels by them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc.calibrate.site_moment import site_rows
from lrc.calibrate.streams import Stream


def mean_magnitudes(student: Stream) -> NDArray[np.float64]:
    """E|z| of each input of the current site, float64 (n,), over the tokens that H is of.

    Tokens of an expert count by their routing weights; those that are not finite are left out.
    Zeros where there are none. Cost T n.
    """
    total = np.zeros(student.inputs[0].shape[-1])
    count = 0.0
    for rows in site_rows(student):
        finite = np.isfinite(rows.z.sum(axis=1, dtype=np.float64))
        weights = np.ones(len(rows.z)) if rows.weights is None else rows.weights
        weights = np.where(finite, weights, 0.0)
        total += weights @ np.where(finite[:, None], np.abs(rows.z), 0.0)
        count += float(weights.sum())
    return total / max(count, np.finfo(np.float64).tiny)
