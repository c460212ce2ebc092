"""Calibration tokens that a caller gives instead of text."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lrc.errors import CalibrationError
from lrc.models.base import Model


def given_windows(windows: ArrayLike, model: Model) -> NDArray[np.integer]:
    """``windows`` as integers (N, T) with N >= 1 and T >= 2, every one a token of the model.

    Raises
    ------
    CalibrationError
        It is no such array.
    SpecError
        A token id is outside the model's vocabulary, or T beyond its context.
    """
    wanted = "expected integer token ids (N, T), at least one window of at least 2 tokens"
    try:
        array: NDArray[Any] = np.asarray(windows)
    except ValueError as error:
        raise CalibrationError(f"windows are no array ({error}); {wanted}") from None
    if array.dtype.kind not in "iu":
        raise CalibrationError(f"windows have dtype {array.dtype}; {wanted}")
    if array.ndim != 2 or array.shape[0] < 1 or array.shape[1] < 2:
        raise CalibrationError(f"windows have shape {array.shape}; {wanted}")
    model.check_length(array.shape[1])
    model.check_ids(array)
    return array
