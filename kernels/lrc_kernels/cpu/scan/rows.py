"""Where the rows of an array lie, for kernels that take addresses."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


def place_of(name: str, array: F32, shape: tuple[int, ...]) -> tuple[int, int]:
    """Address of the first number of an array, and bytes from a row to the next.

    Raises
    ------
    ValueError
        When the array is not float32 of this shape, or numbers along the last axis are not
        neighbours.
    """
    if array.dtype != np.float32 or array.shape != shape:
        raise ValueError(
            f"{name} must be float32 of shape {shape}, not {array.dtype} {array.shape}"
        )
    if array.size and array.shape[-1] > 1 and array.strides[-1] != array.itemsize:
        raise ValueError(f"{name} must be contiguous along its last axis")
    return array.ctypes.data, array.strides[0]
