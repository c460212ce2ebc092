"""Normalisation and activation in float32, without temporaries that are not needed."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from lrc.base.threads import chunks
from lrc.nn.execution import PLAIN, Execution

Array = NDArray[np.float32]

#: Tokens whose activations are gated at a time.
GATED_ROWS = 16


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


def layer_norm(x: Array, weight: Array, bias: Array | None, eps: float) -> Array:
    """Layer normalisation along the last axis (Ba, Kiros and Hinton, 2016).

    Parameters
    ----------
    x : (..., n) float32
    weight : (n,) float32
    bias : (n,) float32 or None
    eps : float
        Added to the variance.

    Returns
    -------
    (..., n) float32, ``weight * (x - mean(x)) / sqrt(var(x) + eps) + bias``.
    """
    y: Array = x - x.mean(axis=-1, keepdims=True)
    y = rms_norm(y, weight, eps)
    if bias is not None:
        y += bias
    return y


def soft_cap(work: Array, cap: float) -> Array:
    """``cap * tanh(work / cap)`` elementwise, in place (work); returns it."""
    work *= np.float32(1 / cap)
    np.tanh(work, out=work)
    work *= np.float32(cap)
    return work


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


def gelu(x: Array, *, out: Array | None = None) -> Array:
    """``x * Phi(x)`` elementwise, Phi the normal distribution (Hendrycks and Gimpel, 2016)."""
    inner = erf(x * np.float32(0.5**0.5))
    inner += np.float32(1)
    inner *= np.float32(0.5)
    result: Array = np.multiply(x, inner, out=out)
    return result


def gelu_tanh(x: Array, *, out: Array | None = None) -> Array:
    """The same, Phi by a hyperbolic tangent of a cubic."""
    inner = x * x
    inner *= np.float32(0.044715)
    inner += np.float32(1)
    inner *= x
    inner *= np.float32((2 / np.pi) ** 0.5)
    np.tanh(inner, out=inner)
    inner += np.float32(1)
    inner *= np.float32(0.5)
    result: Array = np.multiply(x, inner, out=out)
    return result


def relu(x: Array, *, out: Array | None = None) -> Array:
    """``max(x, 0)`` elementwise."""
    result: Array = np.maximum(x, np.float32(0), out=out)
    return result


def relu2(x: Array, *, out: Array | None = None) -> Array:
    """``max(x, 0)**2`` elementwise (So et al., 2021)."""
    result = relu(x, out=out)
    result *= result
    return result


class _Elementwise(Protocol):
    def __call__(self, x: Array, *, out: Array | None = None) -> Array: ...


#: Activations by the names that operations have for them.
ACTIVATIONS: dict[str, _Elementwise] = {
    "silu": silu, "gelu": gelu, "gelu_tanh": gelu_tanh, "relu": relu,
    "relu2": relu2,
}  # fmt: skip


def activate(kind: str, x: Array, execution: Execution = PLAIN) -> Array:
    """``kind(x)`` as a fresh array; see `ACTIVATIONS`."""
    result = np.empty_like(x)
    rows = [a.reshape(-1, x.shape[-1]) for a in (x, result)]

    def tile(part: slice) -> None:
        ACTIVATIONS[kind](rows[0][part], out=rows[1][part])

    execution.each(tile, chunks(len(rows[0]), GATED_ROWS))
    return result


def gated(kind: str, gate: Array, up: Array, execution: Execution = PLAIN) -> Array:
    """``kind(gate) * up`` as a fresh array (Shazeer, 2020); see `ACTIVATIONS`."""
    result = np.empty_like(gate)
    rows = [a.reshape(-1, gate.shape[-1]) for a in (gate, up, result)]

    def tile(part: slice) -> None:
        of_gate, of_up, of_result = (a[part] for a in rows)
        ACTIVATIONS[kind](of_gate, out=of_result)
        of_result *= of_up

    execution.each(tile, chunks(len(rows[0]), GATED_ROWS))
    return result
