"""Tables of scalar codebooks."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from lrc.errors import FormatError

F32 = NDArray[np.float32]

NAMES = ("uniform", "lloyd-max")
BITS = range(2, 9)


@cache
def levels(codebook: str, bits: int) -> F32:
    """Values of a scalar codebook: f32 (2**bits,), ascending, symmetric, read-only.

    Uniform levels have step 1. Lloyd-Max levels minimise the squared error of a unit Gaussian
    (Max 1960); up to 4 bits they are rounded to multiples of largest/127, so that an int8
    table holds them exactly, above to five decimals.

    Raises
    ------
    FormatError
        For a codebook that is not scalar, or bits outside 2 to 8.
    """
    if codebook not in NAMES or bits not in BITS:
        raise FormatError(
            f"no scalar codebook {codebook!r} of {bits} bits; known: {', '.join(NAMES)}, "
            f"{BITS[0]} to {BITS[-1]}"
        )
    count = 1 << bits
    if codebook == "uniform":
        table = np.arange(count) - (count - 1) / 2
    else:
        half = np.round(_lloyd_max_half(count // 2), 5)
        if bits <= 4:
            unit = half[-1] / 127
            half = np.round(half / unit) * unit
        table = np.concatenate([-half[::-1], half])
    result = table.astype(np.float32)
    result.setflags(write=False)
    return result


def _lloyd_max_half(count: int) -> NDArray[np.float64]:
    """Positive levels of the ``2 * count`` level Lloyd-Max quantizer of N(0, 1).

    Newton's method on "each level is the mean of its cell"; the start is Panter and Dite's
    asymptotic density, a Gaussian of variance 3.
    """
    erfc = np.vectorize(math.erfc, otypes=[np.float64])
    level = _normal_quantile((np.arange(count) + 0.5) / (2 * count) + 0.5) * math.sqrt(3)
    for _ in range(100):
        edges = np.concatenate([[0.0], (level[1:] + level[:-1]) / 2, [np.inf]])
        tail = erfc(edges / math.sqrt(2)) / 2
        density = np.exp(-(edges**2) / 2) / math.sqrt(2 * math.pi)
        mass = tail[:-1] - tail[1:]
        mean = (density[:-1] - density[1:]) / mass
        by_low = density[:-1] * (mean - edges[:-1]) / mass / 2
        by_high = np.zeros(count)
        by_high[:-1] = density[1:-1] * (edges[1:-1] - mean[:-1]) / mass[:-1] / 2
        by_low[0] = 0.0
        jacobian = np.diag(by_low + by_high - 1)
        jacobian += np.diag(by_low[1:], -1) + np.diag(by_high[:-1], 1)
        step = np.linalg.solve(jacobian, level - mean)
        level = level + step
        if np.abs(step).max() < 1e-12:
            break
    return level


def _normal_quantile(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles of N(0, 1) by bisection; accuracy 1e-9."""
    low, high = np.full(probability.shape, -9.0), np.full(probability.shape, 9.0)
    erfc = np.vectorize(math.erfc, otypes=[np.float64])
    for _ in range(34):
        middle = (low + high) / 2
        below = erfc(-middle / math.sqrt(2)) / 2 < probability
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    quantile: NDArray[np.float64] = (low + high) / 2
    return quantile
