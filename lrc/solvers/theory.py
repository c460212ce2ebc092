"""What theory says of an error before it is known."""

from __future__ import annotations

import numpy as np

from lrc.linalg.spectral import largest_eigenvalue
from lrc.parts.codes import Codes
from lrc.parts.low_rank import LowRank
from lrc.parts.matrix import PackedMatrix
from lrc.solvers.base import Problem


def caldera_bound(packed: PackedMatrix, problem: Problem) -> float | None:
    """CALDERA's bound of the relative error, where its codes are those of ``packed``.

    Theorem 4.1 of Saha et al., Compressing Large Language Models using Low Rank and Low Precision
    Decomposition, 2024: with H of largest eigenvalue l, and codes of spacing d that span all that
    is rounded, the expected tr(E H E^T) of a matrix (m, n) is at most
    m n l d^2 / pi (1 - k / (2 m))^2, k the rank, and what the rounding of L and R adds.

    The theorem is about rounding that is unbiased (dithered) and never clips. Codes here are
    rounded to nearest, on scales that may clip: the number is for comparison, it proves nothing.

    Returns
    -------
    float or None
        The root of it over tr(T H T^T); None where codes are not spaced equally, or there is more
        than one matrix of codes, or nothing to compress.
    """
    codes = [part for part in packed.parts if isinstance(part, Codes)]
    if len(codes) != 1 or codes[0].coding.step is None or problem.energy <= 0:
        return None
    m, n = packed.shape
    rank = sum(part.rank for part in packed.parts if isinstance(part, LowRank))
    step = codes[0].coding.step * float(np.abs(codes[0].scales).max())
    squared = m * n * largest_eigenvalue(problem.metric.H) * step**2 / np.pi
    return float(np.sqrt(squared / problem.energy) * (1 - rank / (2 * m)))
