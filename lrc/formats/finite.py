"""Counting values that are not finite in stored tensors, at the speed of memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Elements looked at together: small enough for a cache.
_CHUNK = 1 << 18
#: Exponent bits of the narrow types: all set in infinities and NaN alone.
_EXPONENT = {"F16": np.uint16(0x7C00), "BF16": np.uint16(0x7F80)}


def count_non_finite(raw: NDArray[Any], dtype: str) -> int:
    """Values that are NaN or infinite once they are float32.

    Parameters
    ----------
    raw : array
        As `SafetensorsFile.read` gives it.
    dtype : {"F64", "F32", "F16", "BF16"}
        What is stored.

    Examples
    --------
    >>> count_non_finite(np.array([1.0, np.inf, np.nan, 65504.0], np.float16), "F16")
    2
    >>> count_non_finite(np.array([1e300, 1.0]), "F64")
    1
    """
    flat = raw.reshape(-1)
    exponent = _EXPONENT.get(dtype)
    bad = 0
    for start in range(0, flat.size, _CHUNK):
        part = flat[start : start + _CHUNK]
        if exponent is not None:
            bad += int(np.count_nonzero((part.view(np.uint16) & exponent) == exponent))
        else:
            with np.errstate(over="ignore"):
                bad += part.size - int(np.count_nonzero(np.isfinite(part.astype(np.float32))))
    return bad
