"""Softplus of whole arrays."""

from __future__ import annotations

import numpy as np

from lrc_kernels._jit import njit
from lrc_kernels.cpu.scan.rows import F32, place_of
from lrc_kernels.simd.math import absolute, exp_f32, largest, log1p_f32
from lrc_kernels.simd.values import first_f32x16, splat_f32x16, store_first_f32x16


@njit()
def _softplus(x: int, x_row: int, rows: int, n: int, out: int, out_row: int) -> None:
    zero = splat_f32x16(np.float32(0))
    for r in range(rows):
        for i in range(0, n, 16):
            value = first_f32x16(x + x_row * r + 4 * i, n - i)
            small = log1p_f32(exp_f32(zero - absolute(value)))
            # In this order, so that what is no number stays so.
            total = largest(zero, value) + small
            store_first_f32x16(out + out_row * r + 4 * i, total, n - i)


def softplus(x: F32, out: F32) -> None:
    """``out = log(1 + exp(x))``, which is ``max(x, 0) + log1p(exp(-|x|))``.

    Parameters
    ----------
    x : (rows, n) float32
        Rows may be any number of bytes apart.
    out : (rows, n) float32
        May be ``x``.

    Raises
    ------
    ValueError
        When shapes, dtypes or strides differ from that.
    """
    rows, n = x.shape
    _softplus(*place_of("x", x, (rows, n)), rows, n, *place_of("out", out, (rows, n)))
