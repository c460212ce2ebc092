"""Weights of 16 bits as float32, at the speed of memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc_kernels._jit import njit

_U16 = NDArray[np.uint16]
_U32 = NDArray[np.uint32]
_F32 = NDArray[np.float32]

#: What the exponents of float16 and float32 are apart.
_BIAS = np.float32(2.0**112)


@njit()
def _halves(values: _U16, bits: _U32, out: _F32) -> None:
    """``bits`` and ``out`` are one memory; a multiplication also sets subnormals right."""
    for r in range(values.shape[0]):
        for i in range(values.shape[1]):
            half = np.uint32(values[r, i])
            sign = np.uint32((half & np.uint32(0x8000)) << np.uint32(16))
            bits[r, i] = np.uint32(sign | ((half & np.uint32(0x7FFF)) << np.uint32(13)))
        for i in range(values.shape[1]):
            out[r, i] *= _BIAS


@njit()
def _brains(values: _U16, bits: _U32) -> None:
    for r in range(values.shape[0]):
        for i in range(values.shape[1]):
            bits[r, i] = np.uint32(values[r, i]) << np.uint32(16)


def widen_rows(values: NDArray[Any], out: NDArray[np.float32]) -> None:
    """Write finite float16, or BF16 given as uint16, as float32: exact.

    Parameters
    ----------
    values
        C-contiguous float16 or uint16 (m, n), all finite.
    out
        C-contiguous float32 (m, n).

    Raises
    ------
    ValueError
        When shapes, dtypes or strides differ from that.
    """
    fits = values.ndim == 2 and values.shape == out.shape and out.dtype == np.float32
    if not (fits and values.flags.c_contiguous and out.flags.c_contiguous):
        raise ValueError(f"values {values.shape} and out {out.shape} must be alike and contiguous")
    if values.dtype == np.float16:
        _halves(values.view(np.uint16), out.view(np.uint32), out)
    elif values.dtype == np.uint16:
        _brains(values, out.view(np.uint32))
    else:
        raise ValueError(f"values are {values.dtype}, not float16 or uint16")
