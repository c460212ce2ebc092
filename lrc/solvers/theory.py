"""What theory says of an error before it is known.

Theorem 4.1 of Saha et al., Compressing Large Language Models using Low Rank and Low Precision
Decomposition, 2024: with H of largest eigenvalue l, and codes of spacing d that span all that is
rounded, the expected tr(E H E^T) of a matrix (m, n) is at most m n l d^2 / pi (1 - k / (2 m))^2,
k the rank, and what the rounding of L and R adds.

The theorem is about rounding that is unbiased (dithered) and never clips. Codes here are rounded
to nearest, on scales that may clip: the number is for comparison, it proves nothing.
"""

from __future__ import annotations

import numpy as np

from lrc.base.threads import chunks
from lrc.linalg.spectral import largest_eigenvalue
from lrc.parts.codes import Codes
from lrc.parts.low_rank import LowRank
from lrc.parts.matrix import PackedMatrix
from lrc.solvers.base import Problem

#: Rows that are decoded together.
_CHUNK_ROWS = 4096


def caldera_bound(packed: PackedMatrix, problem: Problem) -> float | None:
    """CALDERA's bound of the relative error, where its codes are those of ``packed``.

    Returns
    -------
    float or None
        The root of it over tr(T H T^T); None where codes are not spaced equally, or there is more
        than one matrix of codes, or nothing to compress.
    """
    codes = _only_codes(packed)
    if codes is None or codes.coding.step is None:
        return None
    step = codes.coding.step * float(np.abs(codes.scales).max())
    return theorem_bound(packed, step, largest_eigenvalue(problem.metric.H), problem.energy)


def theorem_bound(
    packed: PackedMatrix, step: float | None, largest: float, energy: float
) -> float | None:
    """The root of the theorem's bound over the energy of what was compressed.

    Parameters
    ----------
    packed : PackedMatrix
        For its shape and rank.
    step : float or None
        Spacing d of the codes, in the units of the matrix that ``energy`` is of.
    largest : float
        The largest eigenvalue l of H.
    energy : float
        tr(W H W^T).

    Returns
    -------
    float or None
        None without a step, or where there is nothing to compress.
    """
    if step is None or energy <= 0:
        return None
    m, n = packed.shape
    rank = sum(part.rank for part in packed.parts if isinstance(part, LowRank))
    squared = m * n * largest * step**2 / np.pi
    return float(np.sqrt(squared / energy) * (1 - rank / (2 * m)))


def code_spacing(packed: PackedMatrix) -> float | None:
    """Spacing of the codes that the theorem is about, in the units of the matrix itself.

    Their own where they are spaced equally; else 2 R / (2^b - 1), that of as many bits b over the
    range [-R, R] of the values of Q: then the bound is that of CALDERA's own uniform quantizer in
    the place of a lattice or a trellis.

    Returns
    -------
    float or None
        None where there is not one matrix of codes, or the rotation is none any more (tuned).
    """
    codes = _only_codes(packed)
    signs = (packed.signs_in, packed.signs_out)
    if codes is None or any(of is not None and of.dtype == np.int8 for of in signs):
        return None
    if codes.coding.step is not None:
        step = codes.coding.step * float(np.abs(codes.scales).max())
    else:
        rows = np.arange(packed.shape[0])
        parts = chunks(len(rows), _CHUNK_ROWS)
        largest = max((float(np.abs(codes.rows(rows[part])).max()) for part in parts), default=0.0)
        step = 2 * largest / (2**codes.bits - 1)
    return abs(packed.gain) * step


def _only_codes(packed: PackedMatrix) -> Codes | None:
    codes = [part for part in packed.parts if isinstance(part, Codes)]
    return codes[0] if len(codes) == 1 else None
