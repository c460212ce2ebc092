"""The orthonormal transform M_n of any width: Hadamard blocks, generated.

``M_n`` is block diagonal with ``n / block`` copies of ``(H_K kron S) / sqrt(block)``, where
``block = K * 2^p`` comes from :func:`~lrc_kernels.hadamard_order.hadamard_block`, ``H_K`` is a
Paley matrix (K = 1: the number 1) and ``S`` Sylvester's matrix of order ``2^p``.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from lrc_kernels.backend import get_kernels
from lrc_kernels.hadamard_order import hadamard_block, hadamard_matrix

Float = TypeVar("Float", np.float32, np.float64)


@cache
def _scaled(order: int, block: int, dtype: str) -> NDArray[np.floating]:
    """``H_order / sqrt(block)`` as floats; read-only."""
    scale = np.dtype(dtype).type(math.sqrt(block))
    matrix: NDArray[np.floating] = hadamard_matrix(order).astype(dtype) / scale
    matrix.setflags(write=False)
    return matrix


@cache
def signs_matrix(order: int) -> NDArray[np.float32]:
    """``H_order`` as float32; read-only."""
    matrix = hadamard_matrix(order).astype(np.float32)
    matrix.setflags(write=False)
    return matrix


def hadamard_transform(x: NDArray[Float], *, transpose: bool = False) -> NDArray[Float]:
    """Apply ``M_n`` along the last axis.

    Parameters
    ----------
    x
        float32 or float64 (..., n), any n >= 1; not modified.
    transpose
        False: ``y_i = sum_j M_ij x_j``. True: its inverse, ``y_i = sum_j M_ji x_j``.

    Returns
    -------
    A new C-contiguous array of the shape and dtype of ``x``.

    Raises
    ------
    TypeError
        For another dtype.
    """
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"hadamard_transform needs float32 or float64, not {x.dtype}")
    n = x.shape[-1]
    block, order = hadamard_block(n)
    inner = block // order
    y = np.array(x, order="C").reshape(-1, inner)
    if y.size == 0 or block == 1:
        return y.reshape(x.shape)
    if inner > 1:
        get_kernels().fwht(y)
    if order == 1:
        y *= x.dtype.type(1 / math.sqrt(block))
        return y.reshape(x.shape)
    matrix = _scaled(order, block, x.dtype.name)
    left = matrix.T if transpose else matrix
    if inner == 1:
        return (y.reshape(-1, order) @ left.T).reshape(x.shape)
    mixed: NDArray[Float] = np.matmul(left, y.reshape(-1, order, inner))
    return mixed.reshape(x.shape)
