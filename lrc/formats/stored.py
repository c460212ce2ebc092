"""A matrix left in the type it is stored in, widened to float32 where it is looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def widen(values: NDArray[Any]) -> NDArray[np.float32]:
    """Floats as float32; uint16 are BF16. An aligned float32 array is returned as it is."""
    if values.dtype == np.uint16:
        wide: NDArray[np.float32] = np.left_shift(values, 16, dtype=np.uint32).view(np.float32)
        return wide
    return np.require(values, np.float32, "A")


class StoredMatrix:
    """A (m, n) matrix of F16, BF16, F32 or F64 values; takes the memory that it takes on disk.

    Parameters
    ----------
    values : (m, n) floats, or uint16 for BF16
        Usually a view of a mapped file.
    """

    def __init__(self, values: NDArray[Any]) -> None:
        self._values = values

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n)."""
        m, n = self._values.shape
        return m, n

    def rows(self, which: slice | NDArray[np.integer]) -> NDArray[np.float32]:
        """Some rows as float32, (..., n)."""
        return widen(self._values[which])

    def copy_rows(self, which: slice, out: NDArray[np.float32]) -> None:
        """Write some rows, all finite, as float32 into ``out`` (rows, n), C-contiguous."""
        values = self._values[which]
        if values.dtype.itemsize > 2:
            np.copyto(out, values, casting="same_kind")
            return
        from lrc_kernels.cpu.codes.widen import widen_rows

        widen_rows(values, out)
