"""The kernels of :mod:`lrc_kernels.cpu.scan` once more, in the plainest NumPy and float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def causal_conv(
    x: Array, weight: Array, bias: Array | None, state: Array, *, silu: bool
) -> tuple[Array, Array]:
    """Convolved inputs (T, channels), and the last inputs (taps - 1, channels)."""
    taps = len(weight)
    inputs = np.concatenate([state, x]).astype(np.float64)
    y = sum(weight[k] * inputs[k : k + len(x)] for k in range(taps))
    y = y if bias is None else y + bias
    with np.errstate(over="ignore"):
        y = y / (1 + np.exp(-y)) if silu else y
    return y, inputs[len(x) :]


def softplus(x: Array) -> Array:
    """``log(1 + exp(x))``."""
    result: Array = np.logaddexp(0.0, x.astype(np.float64))
    return result


def selective_scan(
    x: Array, dt: Array, A: Array, B: Array, C: Array, D: Array, state: Array
) -> tuple[Array, Array]:
    """Outputs (T, channels) and the last state (states, channels)."""
    h, y = state.astype(np.float64), np.empty(x.shape)
    for t in range(len(x)):
        step = dt[t].astype(np.float64)
        h = np.exp(step * A) * h + B[t][:, None] * (step * x[t])
        y[t] = C[t] @ h + D.astype(np.float64) * x[t]
    return y, h


def ssd_scan(
    x: Array, dt: Array, A: Array, B: Array, C: Array, D: Array, state: Array
) -> tuple[Array, Array]:
    """Outputs (T, heads, channels) and the last states (heads, states, channels)."""
    h, y = state.astype(np.float64), np.empty(x.shape)
    for t in range(len(x)):
        step = dt[t].astype(np.float64)
        driven = B[t][:, None] * (step[:, None] * x[t])[:, None, :]
        h = np.exp(step * A)[:, None, None] * h + driven
        y[t] = np.einsum("n,hnp->hp", C[t], h) + D.astype(np.float64)[:, None] * x[t]
    return y, h
