"""Normalisation and activation in float32, without temporaries that are not needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import chunks
from lrc.nn.execution import PLAIN, Execution

Array = NDArray[np.float32]

#: Tokens whose activations are gated at a time.
GATED_ROWS = 64


def rms_norm(x: Array, weight: Array, eps: float) -> Array:
    """Root-mean-square normalisation along the last axis (Zhang and Sennrich, 2019).

    Parameters
    ----------
    x : (..., n) float32
    weight : (n,) float32
    eps : float
        Added to the mean square.

    Returns
    -------
    (..., n) float32, ``weight * x / sqrt(mean(x**2) + eps)``.
    """
    scale = np.vecdot(x, x)[..., None]
    scale *= np.float32(1 / x.shape[-1])
    scale += np.float32(eps)
    np.sqrt(scale, out=scale)
    y: Array = x / scale
    y *= weight
    return y


def silu(x: Array, *, out: Array | None = None) -> Array:
    """``x * sigmoid(x)`` elementwise, finite for every finite x.

    Parameters
    ----------
    x : float32 of any shape
    out : array like ``x`` or None
        Where the result goes; may be ``x`` itself.
    """
    with np.errstate(over="ignore"):  # exp(-x) = inf gives the right limit, -0
        denominator = np.exp(-x)
    denominator += np.float32(1)
    result: Array = np.divide(x, denominator, out=out)
    return result


def gated_silu(gate: Array, up: Array, execution: Execution = PLAIN) -> Array:
    """SwiGLU's ``silu(gate) * up`` as a fresh array (Shazeer, 2020)."""
    result = np.empty_like(gate)
    rows = [a.reshape(-1, gate.shape[-1]) for a in (gate, up, result)]

    def tile(part: slice) -> None:
        of_gate, of_up, of_result = (a[part] for a in rows)
        silu(of_gate, out=of_result)
        of_result *= of_up

    execution.each(tile, chunks(len(rows[0]), GATED_ROWS))
    return result
