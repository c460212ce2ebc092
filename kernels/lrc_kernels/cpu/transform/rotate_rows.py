"""The transform of :mod:`lrc_kernels.rotate` with signs, for rows of a float32 matrix."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc_kernels._jit import njit
from lrc_kernels.cpu.transform.hadamard_vector import apply_diagonal, hadamard_vector
from lrc_kernels.hadamard_order import hadamard_block
from lrc_kernels.rotate import signs_matrix

F32 = NDArray[np.float32]


@njit()
def _rows(
    x: int, rows: int, n: int, signs: int, real: int, block: int, order: int, matrix: int,
    scale: np.float32, back: int, y: int, work: int,
) -> None:  # fmt: skip
    for r in range(rows):
        source, target = x + 4 * n * r, y + 4 * n * r
        if back:
            hadamard_vector(target, n, block, order, matrix, scale, 1, work)
            apply_diagonal(target, n, signs, real, target)
        else:
            apply_diagonal(source, n, signs, real, target)
            hadamard_vector(target, n, block, order, matrix, scale, 0, work)


def rotate_rows(x: F32, signs: NDArray[Any], out: F32, *, back: bool) -> None:
    """``out = M S x`` for each row, or with ``back`` ``out = S M^T out`` (x is not read).

    Parameters
    ----------
    x, out
        C-contiguous float32 (rows, n).
    signs
        u8 (ceil(n / 8),), bit i set: entry i is negated; or S itself, float32 (n,).

    Raises
    ------
    ValueError
        When shapes or dtypes differ from that.
    """
    for array in (x, out):
        if array.dtype != np.float32 or array.ndim != 2 or not array.flags.c_contiguous:
            raise ValueError(f"rotate_rows needs C-contiguous float32 rows, not {array.dtype}")
    rows, n = out.shape
    real = signs.dtype == np.float32
    if x.shape != out.shape or signs.shape != (n if real else -(-n // 8),):
        raise ValueError(f"x {x.shape}, out {out.shape} and signs {signs.shape} do not fit")
    block, order = hadamard_block(n)
    matrix = signs_matrix(order) if order > 1 else out
    signs = np.ascontiguousarray(signs)
    work = np.empty(n, np.float32)
    _rows(
        x.ctypes.data, rows, n, signs.ctypes.data, int(real), block, order, matrix.ctypes.data,
        np.float32(1 / math.sqrt(block)), int(back), out.ctypes.data, work.ctypes.data,
    )  # fmt: skip
