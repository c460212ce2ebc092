"""The selective scan of Mamba (Gu and Dao, 2023, algorithm 2): 16 channels are lanes."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types

from lrc_kernels._jit import njit
from lrc_kernels._late import late
from lrc_kernels.cpu.scan.rows import F32, place_of
from lrc_kernels.simd.math import exp_f32
from lrc_kernels.simd.threads import fetch
from lrc_kernels.simd.values import (
    first_f32x16,
    load_f32,
    load_f32x16,
    splat_f32x16,
    store_f32x16,
    store_first_f32x16,
)

#: Channels that are computed at a time, and the bytes of so many numbers.
LANES, ROW_BYTES = 16, 64
#: Tokens whose inputs are asked for ahead: rows of one channel are far apart.
_AHEAD = 4


@njit(inline=True)
def _scan_lanes(
    x: int, x_row: int, dt: int, dt_row: int, a: int, a_row: int, b: int, b_row: int, c: int,
    c_row: int, d: int, state: int, state_row: int, tokens: int, states: int, count: int,
    work: int, out: int, out_row: int, out_state: int, out_state_row: int,
) -> None:  # fmt: skip
    """The first ``count`` channels; ``work`` holds A and the state, for 16 channels each.

    Where they come from, rows are often so far apart that they share few places of the cache.
    """
    decay, carried = work, work + ROW_BYTES * states
    for n in range(states):
        store_f32x16(decay + ROW_BYTES * n, first_f32x16(a + a_row * n, count))
        store_f32x16(carried + ROW_BYTES * n, first_f32x16(state + state_row * n, count))
    skip = first_f32x16(d, count)
    for t in range(tokens):
        fetch(x + x_row * (t + _AHEAD))
        fetch(dt + dt_row * (t + _AHEAD))
        value, step = first_f32x16(x + x_row * t, count), first_f32x16(dt + dt_row * t, count)
        driven, total = step * value, skip * value
        for n in range(states):
            h = exp_f32(step * load_f32x16(decay + ROW_BYTES * n)) * load_f32x16(
                carried + ROW_BYTES * n
            ) + driven * splat_f32x16(load_f32(b + b_row * t + 4 * n))
            store_f32x16(carried + ROW_BYTES * n, h)
            total = total + h * splat_f32x16(load_f32(c + c_row * t + 4 * n))
        store_first_f32x16(out + out_row * t, total, count)
    for n in range(states):
        final = load_f32x16(carried + ROW_BYTES * n)
        store_first_f32x16(out_state + out_state_row * n, final, count)


@late(*(types.intp,) * 21)
def scan_channels() -> Any:
    """Selective scans of channels."""

    def run(
        x: int, x_row: int, dt: int, dt_row: int, a: int, a_row: int, b: int, b_row: int, c: int,
        c_row: int, d: int, state: int, state_row: int, tokens: int, states: int, channels: int,
        work: int, out: int, out_row: int, out_state: int, out_state_row: int,
    ) -> None:  # fmt: skip
        """All channels, with rows so many bytes apart; ``work``: room for 32 f32 a state."""
        whole = channels // LANES * LANES
        for i in range(0, whole, LANES):
            at = 4 * i
            _scan_lanes(x + at, x_row, dt + at, dt_row, a + at, a_row, b, b_row, c, c_row, d + at,
                        state + at, state_row, tokens, states, 16, work, out + at, out_row,
                        out_state + at, out_state_row)  # fmt: skip
        if whole < channels:
            at = 4 * whole
            _scan_lanes(x + at, x_row, dt + at, dt_row, a + at, a_row, b, b_row, c, c_row, d + at,
                        state + at, state_row, tokens, states, channels - whole, work, out + at,
                        out_row, out_state + at, out_state_row)  # fmt: skip

    return run


def selective_scan(
    x: F32, dt: F32, A: F32, B: F32, C: F32, D: F32, state: F32, out: F32, out_state: F32
) -> None:
    """Carry a state through tokens: ``h = exp(dt A) h + dt B x``, ``y = C h + D x``.

    Channels do not depend on each other, and tokens are computed one by one: cutting either into
    chunks never changes a bit. Rows may be any number of bytes apart.

    Parameters
    ----------
    x, dt : (T, channels) float32
        Inputs, and their step sizes, which are positive.
    A : (states, channels) float32
        Negative.
    B, C : (T, states) float32
    D : (channels,) float32
    state : (states, channels) float32
        h before the first token; zero before a text.
    out : (T, channels) float32
        y; may be ``x`` or ``dt``.
    out_state : (states, channels) float32
        h after the last token; may be ``state``.

    Raises
    ------
    ValueError
        When shapes, dtypes or strides differ from that.
    """
    (tokens, channels), states = x.shape, A.shape[0]
    work = np.empty((2 * states, LANES), np.float32)
    scan_channels.kernel()(
        *place_of("x", x, (tokens, channels)),
        *place_of("dt", dt, (tokens, channels)),
        *place_of("A", A, (states, channels)),
        *place_of("B", B, (tokens, states)),
        *place_of("C", C, (tokens, states)),
        place_of("D", D, (channels,))[0],
        *place_of("state", state, (states, channels)),
        tokens, states, channels, work.ctypes.data,
        *place_of("out", out, (tokens, channels)),
        *place_of("out_state", out_state, (states, channels)),
    )  # fmt: skip
