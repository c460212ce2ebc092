"""The dtype of moments and factors, by their size alone."""

from __future__ import annotations

import numpy as np

#: Inputs from which moments are summed, rotated, factored and solved with in float32.
WIDE = 4096


def is_wide(n: int) -> bool:
    """Whether a moment of n inputs is worked on in float32."""
    return n >= WIDE


def working_dtype(n: int) -> type[np.floating]:
    """float64 for moments of fewer than 4096 inputs, float32 from there on.

    Products of activations are float32 at any size, so their rounding is in H either way. A factor
    in float32 adds ``n eps`` times the size of H, which damping and shrinkage outweigh: both are
    shares of the diagonal. It takes half the memory and half the time.
    """
    return np.float32 if is_wide(n) else np.float64
