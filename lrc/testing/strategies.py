"""Hypothesis strategies for weights, spectra and second moments.

Hypothesis draws the structure (sizes, family, condition, scale) and a seed; NumPy builds the
values from it. So examples shrink to small, well-conditioned ones, conditioning is exact by
construction, and nothing is filtered. Well-conditioned and degenerate moments are separate
strategies, because they have separate laws.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

SPECTRUM_FAMILIES = ("geometric", "one small", "one large", "cluster")
WEIGHT_FAMILIES = ("gaussian", "heavy-tailed", "outlier column", "zero row", "low rank")
DEGENERATE_FAMILIES = (
    "few tokens",
    "dead channels",
    "twin channels",
    "massive channel",
    "slightly indefinite",
    "tiny eigenvalues",
    "zero",
)


class MatrixProblem(NamedTuple):
    """W float32 (m, n) and H float64 (n, n)."""

    W: NDArray[np.float32]
    H: NDArray[np.float64]


def seeds() -> st.SearchStrategy[int]:
    """Seeds of NumPy generators."""
    return st.integers(2, 2**32 - 1)


def scales(decades: int = 3) -> st.SearchStrategy[float]:
    """Powers of ten from 10^-decades to 10^decades."""
    return st.integers(-decades, decades).map(lambda k: 10.0**k)


def shapes(max_m: int = 24, max_n: int = 24) -> st.SearchStrategy[tuple[int, int]]:
    """Shapes (m, n), from (1, 1)."""
    return st.tuples(st.integers(1, max_m), st.integers(1, max_n))


def ranks(m: int, n: int, *, least: int = 1) -> st.SearchStrategy[int]:
    """Ranks of an m x n matrix, from ``least`` to ``min(m, n)``."""
    return st.integers(least, min(m, n))


@st.composite
def spectra(
    draw: st.DrawFn, n: int, max_log10_cond: float = 6.0, *, deficient: bool = False
) -> NDArray[np.float64]:
    """Eigenvalues, float64 (n,), descending from 1 to exactly 1/cond; some 0 if ``deficient``."""
    family = draw(st.sampled_from(SPECTRUM_FAMILIES))
    least = float(10.0 ** -draw(st.floats(0.0, max_log10_cond)))
    position = np.linspace(0.0, 1.0, n) if n > 1 else np.zeros(1)
    if family == "geometric":
        values = least**position
    elif family == "one small":
        values = np.where(position == 1.0, least, 1.0)
    elif family == "one large":
        values = np.where(position == 0.0, 1.0, least)
    else:
        values = np.where(position <= 0.5, 1.0, least)
    if deficient and n > 1:
        values[n - draw(st.integers(1, n - 1)) :] = 0.0
    return values


@st.composite
def second_moments(
    draw: st.DrawFn, n: int, max_log10_cond: float = 6.0, *, deficient: bool = False
) -> NDArray[np.float64]:
    """V diag(s) V^T with Haar V: symmetric float64 (n, n), cond(H) <= 10^max_log10_cond.

    With ``deficient`` it is positive semidefinite and singular to rounding (n > 1).
    """
    values = draw(spectra(n, max_log10_cond, deficient=deficient))
    return _with_spectrum(draw(scales()) * values, draw(seeds()))


@st.composite
def degenerate_moments(draw: st.DrawFn, n: int) -> NDArray[np.float64]:
    """What calibration can yield at its worst, float64 (n, n).

    Fewer tokens than channels, channels that are dead, equal or a million times larger than
    the others, eigenvalues down to 1e-14, a rounding-sized negative part with a quiet channel, or
    all zeros.
    """
    family = draw(st.sampled_from(DEGENERATE_FAMILIES))
    rng = np.random.default_rng(draw(seeds()))
    tokens = draw(st.integers(1, max(n - 1, 1))) if family == "few tokens" else 2 * n + 1
    z = rng.standard_normal((tokens, n))
    channel = int(rng.integers(n))
    if family == "dead channels":
        z[:, rng.random(n) < 0.4] = 0.0
    elif family == "twin channels":
        z[:, channel] = z[:, 0]
    elif family == "massive channel":
        z[:, channel] *= 1e6
    elif family == "zero":
        z[:] = 0.0
    H = z.T @ z / tokens
    if family == "tiny eigenvalues":
        H = _with_spectrum(np.geomspace(1.0, 1e-14, n), int(rng.integers(2, 2**32)))
    elif family == "slightly indefinite":
        seed, positive = int(rng.integers(2, 2**32)), (np.arange(n) < n / 2).astype(np.float64)
        quiet = np.ones(n)
        quiet[channel] = 1e-5
        H = quiet[:, None] * _with_spectrum(positive, seed) * quiet
        # Of the size of what is left: the quiet channel may have carried nearly all.
        size = 1e-9 * float(np.diag(H).max())
        H -= size * (quiet[:, None] * _with_spectrum(1 - positive, seed) * quiet)
    return draw(scales()) * 0.5 * (H + H.T)


@st.composite
def weights(draw: st.DrawFn, m: int, n: int, *, max_decades: int = 3) -> NDArray[np.float32]:
    """Matrices float32 (m, n) of the families of ``WEIGHT_FAMILIES``."""
    family = draw(st.sampled_from(WEIGHT_FAMILIES))
    rng = np.random.default_rng(draw(seeds()))
    W = rng.standard_normal((m, n))
    if family == "heavy-tailed":
        W = rng.standard_t(3, (m, n))
    elif family == "outlier column":
        W[:, rng.integers(n)] *= 30.0
    elif family == "zero row":
        W[rng.integers(m)] = 0.0
    elif family == "low rank":
        rank = draw(st.integers(1, min(m, n)))
        W = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n)) + 0.1 * W
    return (draw(scales(max_decades)) * W).astype(np.float32)


@st.composite
def problems(
    draw: st.DrawFn,
    max_m: int = 24,
    max_n: int = 24,
    *,
    max_log10_cond: float = 4.0,
    degenerate: bool = False,
) -> MatrixProblem:
    """A weight matrix with a second moment of its inputs, well-conditioned or degenerate."""
    m, n = draw(shapes(max_m, max_n))
    moment = degenerate_moments(n) if degenerate else second_moments(n, max_log10_cond)
    return MatrixProblem(draw(weights(m, n)), draw(moment))


def _with_spectrum(values: NDArray[np.float64], seed: int) -> NDArray[np.float64]:
    n = len(values)
    V, upper = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))
    V *= np.sign(np.diag(upper))
    H: NDArray[np.float64] = (V * values) @ V.T
    return 0.5 * (H + H.T)
