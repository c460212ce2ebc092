"""Walsh-Hadamard transform along the last axis, in place."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc_kernels._jit import njit


@njit()
def _butterflies(work: NDArray[Any]) -> None:
    """One row at a time (it stays in cache): strides 1, 2, 4 fused, then 8, 16, ... doubling."""
    length = work.shape[1]
    for r in range(work.shape[0]):
        row = work[r]
        half = 1
        if length >= 8:
            for i in range(0, length, 8):
                a0, a1 = row[i] + row[i + 1], row[i] - row[i + 1]
                a2, a3 = row[i + 2] + row[i + 3], row[i + 2] - row[i + 3]
                a4, a5 = row[i + 4] + row[i + 5], row[i + 4] - row[i + 5]
                a6, a7 = row[i + 6] + row[i + 7], row[i + 6] - row[i + 7]
                b0, b1, b2, b3 = a0 + a2, a1 + a3, a0 - a2, a1 - a3
                b4, b5, b6, b7 = a4 + a6, a5 + a7, a4 - a6, a5 - a7
                row[i], row[i + 1], row[i + 2], row[i + 3] = b0 + b4, b1 + b5, b2 + b6, b3 + b7
                row[i + 4], row[i + 5] = b0 - b4, b1 - b5
                row[i + 6], row[i + 7] = b2 - b6, b3 - b7
            half = 8
        while half < length:
            for start in range(0, length, 2 * half):
                upper = row[start : start + half]
                lower = row[start + half : start + 2 * half]
                for j in range(half):
                    p = upper[j]
                    q = lower[j]
                    upper[j] = p + q
                    lower[j] = p - q
            half *= 2


def fwht(work: NDArray[Any]) -> None:
    """Replace each row of ``work`` f32|f64 (rows, p) by its unnormalised transform.

    ``p`` is a power of two; the matrix is Sylvester's, ``S_ij = (-1)^popcount(i & j)``.

    Raises
    ------
    ValueError
        If ``work`` is not a C-contiguous float matrix whose width is a power of two.
    """
    width = work.shape[-1]
    if work.ndim != 2 or width < 1 or width & (width - 1):
        raise ValueError(f"fwht needs (rows, power of two), not {work.shape}")
    if work.dtype not in (np.float32, np.float64) or not work.flags.c_contiguous:
        raise ValueError(f"fwht needs C-contiguous float32 or float64, not {work.dtype}")
    _butterflies(work)
