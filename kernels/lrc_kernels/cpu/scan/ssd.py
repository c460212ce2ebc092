"""The scan of Mamba-2 (Dao and Gu, 2024, section 3): one decay a head; 32 channels are lanes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types

from lrc_kernels._jit import njit
from lrc_kernels._late import late
from lrc_kernels.cpu.scan.rows import F32, place_of
from lrc_kernels.simd.math import exp_f32
from lrc_kernels.simd.values import (
    first_f32x16,
    load_f32,
    splat_f32x16,
    store_first_f32x16,
)

#: Channels that are computed at a time.
LANES = 32


@njit(inline=True)
def _scan_lanes(
    x: int, x_row: int, dt: int, dt_row: int, a: np.float32, b: int, b_row: int, c: int,
    c_row: int, d: np.float32, tokens: int, states: int, count: int, out: int, out_row: int,
    carried: int, carried_row: int,
) -> None:  # fmt: skip
    """The first ``count`` channels of a head; ``carried`` f32 (states, channels) is its state."""
    rest = count - 16
    for t in range(tokens):
        step = load_f32(dt + dt_row * t)
        decay, step = exp_f32(splat_f32x16(step * a)), splat_f32x16(step)
        value, other = first_f32x16(x + x_row * t, count), first_f32x16(x + x_row * t + 64, rest)
        skip = splat_f32x16(d)
        total, another = skip * value, skip * other
        value, other = step * value, step * other
        for n in range(states):
            into = splat_f32x16(load_f32(b + b_row * t + 4 * n))
            from_state = splat_f32x16(load_f32(c + c_row * t + 4 * n))
            at = carried + carried_row * n
            h = decay * first_f32x16(at, count) + value * into
            g = decay * first_f32x16(at + 64, rest) + other * into
            store_first_f32x16(at, h, count)
            store_first_f32x16(at + 64, g, rest)
            total, another = total + h * from_state, another + g * from_state
        store_first_f32x16(out + out_row * t, total, count)
        store_first_f32x16(out + out_row * t + 64, another, rest)


@late(*(types.intp,) * 4, types.float32, *(types.intp,) * 4, types.float32, *(types.intp,) * 6)
def scan_head() -> Any:
    """Scans of a head."""

    def run(
        x: int, x_row: int, dt: int, dt_row: int, a: np.float32, b: int, b_row: int, c: int,
        c_row: int, d: np.float32, tokens: int, states: int, channels: int, out: int, out_row: int,
        carried: int,
    ) -> None:  # fmt: skip
        """One head; ``carried`` f32 (states, channels) is its state, before and after.

        What it reads of each token is so many bytes apart as ``*_row`` says.
        """
        whole = channels // LANES * LANES
        for i in range(0, whole, LANES):
            _scan_lanes(x + 4 * i, x_row, dt, dt_row, a, b, b_row, c, c_row, d, tokens, states, 32,
                        out + 4 * i, out_row, carried + 4 * i, 4 * channels)  # fmt: skip
        if whole < channels:
            _scan_lanes(x + 4 * whole, x_row, dt, dt_row, a, b, b_row, c, c_row, d, tokens, states,
                        channels - whole, out + 4 * whole, out_row, carried + 4 * whole,
                        4 * channels)  # fmt: skip

    return run


def ssd_scan(
    x: F32, dt: F32, A: F32, B: F32, C: F32, D: F32, state: F32, out: F32, out_state: F32
) -> None:
    """Carry states of heads that share B and C: ``h = exp(dt A) h + dt B x``, ``y = C h + D x``.

    Heads do not depend on each other, and tokens are computed one by one: cutting either into
    chunks never changes a bit. Rows may be any number of bytes apart.

    Parameters
    ----------
    x : (T, heads, channels) float32
    dt : (T, heads) float32
        Step sizes, which are positive.
    A, D : (heads,) float32
        A is negative.
    B, C : (T, states) float32
    state : (heads, states, channels) float32
        h before the first token; zero before a text.
    out : (T, heads, channels) float32
        y; may be ``x``.
    out_state : (heads, states, channels) float32
        h after the last token, C-contiguous; may be ``state``.

    Raises
    ------
    ValueError
        When shapes, dtypes or strides differ from that.
    """
    (tokens, heads, channels), states = x.shape, B.shape[1]
    at_dt, dt_row = place_of("dt", dt, (tokens, heads))
    at_b = place_of("B", B, (tokens, states))
    at_c = place_of("C", C, (tokens, states))
    for name, array in {"A": A, "D": D}.items():
        place_of(name, array, (heads,))
    for name, array in {"state": state, "out_state": out_state}.items():
        place_of(name, array, (heads, states, channels))
    if not out_state.flags.c_contiguous:
        raise ValueError("out_state must be C-contiguous")
    out_state[...] = state
    for h in range(heads):
        scan_head.kernel()(
            *place_of("x", x[:, h], (tokens, channels)), at_dt + 4 * h, dt_row, A[h], *at_b,
            *at_c, D[h], tokens, states, channels,
            *place_of("out", out[:, h], (tokens, channels)), out_state[h].ctypes.data,
        )  # fmt: skip
