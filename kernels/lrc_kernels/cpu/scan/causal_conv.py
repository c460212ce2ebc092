"""Causal convolution of each channel by itself, with the inputs before the first token."""

from __future__ import annotations

import numpy as np

from lrc_kernels._jit import njit
from lrc_kernels.cpu.scan.rows import F32, place_of
from lrc_kernels.simd.math import exp_f32
from lrc_kernels.simd.values import first_f32x16, splat_f32x16, store_first_f32x16


@njit()
def _convolve(
    x: int, x_row: int, weight: int, weight_row: int, bias: int, state: int, state_row: int,
    tokens: int, channels: int, taps: int, silu: bool, out: int, out_row: int,
) -> None:  # fmt: skip
    one, zero = splat_f32x16(np.float32(1)), splat_f32x16(np.float32(0))
    before = taps - 1
    for t in range(tokens):
        for c in range(0, channels, 16):
            at, count = 4 * c, channels - c
            total = zero
            if bias != 0:
                total = first_f32x16(bias + at, count)
            for k in range(taps):
                j = t + k - before
                row = x + x_row * j if j >= 0 else state + state_row * (j + before)
                w = first_f32x16(weight + weight_row * k + at, count)
                total = total + w * first_f32x16(row + at, count)
            if silu:
                total = total / (one + exp_f32(zero - total))
            store_first_f32x16(out + out_row * t + at, total, count)


def causal_conv(
    x: F32, weight: F32, bias: F32 | None, state: F32, out: F32, out_state: F32, *, silu: bool
) -> None:
    """``out[t, c] = bias[c] + sum_k weight[k, c] x[t - taps + 1 + k, c]``, or silu of that.

    Channels do not depend on each other, and tokens are computed one by one: cutting either into
    chunks never changes a bit. Rows may be any number of bytes apart.

    Parameters
    ----------
    x : (T, channels) float32
    weight : (taps, channels) float32
        The last row multiplies the token itself.
    bias : (channels,) float32 or None
    state : (taps - 1, channels) float32
        Inputs before the first token, the last one last; zero before a text.
    out : (T, channels) float32
        May not share memory with x.
    out_state : (taps - 1, channels) float32
        The last inputs, for the tokens that follow; may be ``state``.
    silu : bool
        Whether each result y becomes ``y / (1 + exp(-y))``.

    Raises
    ------
    ValueError
        When shapes, dtypes or strides differ from that.
    """
    (tokens, channels), taps = x.shape, weight.shape[0]
    _convolve(
        *place_of("x", x, (tokens, channels)),
        *place_of("weight", weight, (max(taps, 1), channels)),
        0 if bias is None else place_of("bias", bias, (channels,))[0],
        *place_of("state", state, (taps - 1, channels)), tokens, channels, taps, silu,
        *place_of("out", out, (tokens, channels)),
    )  # fmt: skip
    place_of("out_state", out_state, (taps - 1, channels))
    last = np.concatenate([state, x[max(0, tokens - taps + 1) :]])
    out_state[...] = last[len(last) - (taps - 1) :]
