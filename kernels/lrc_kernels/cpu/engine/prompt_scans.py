"""State-space layers of many tokens: threads claim channels or heads, and take all tokens there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc_kernels._jit import njit
from lrc_kernels.cpu.engine.barrier import wait_for_pieces
from lrc_kernels.cpu.engine.scans import convolve, copy_rows
from lrc_kernels.cpu.engine.table import (
    ADDRESS,
    BIAS,
    COUNT,
    ENTRY,
    KEYS,
    KV_HEADS,
    OUTPUTS,
    SOURCE,
    STATE,
    STRIDE,
    TARGET,
    VALUES,
    WIDTH,
)
from lrc_kernels.cpu.scan.selective import scan_channels
from lrc_kernels.cpu.scan.ssd import scan_head
from lrc_kernels.simd.threads import arrive
from lrc_kernels.simd.values import load_f32

I64 = NDArray[np.int64]

_convolve, _scan_channels, _scan_head = convolve.call, scan_channels.call, scan_head.call

#: Channels that are claimed at a time.
_CHANNELS = 64


@njit(inner=True)
def convolve_tokens(
    op: I64, tokens: int, buffers: I64, strides: I64, states: I64, claims: int
) -> None:
    """Convolve all channels in place; see `scans.convolve`."""
    x, row, n, taps = buffers[op[TARGET]], strides[op[TARGET]], op[WIDTH], op[COUNT]
    before, after = states[op[STATE], 0], states[op[STATE], 1]
    pieces = (n + _CHANNELS - 1) // _CHANNELS
    while True:
        start = _CHANNELS * arrive(claims)
        if start >= n:
            break
        stop = min(n, start + _CHANNELS)
        copy_rows(before, taps - 1, n, start, stop, after)
        for t in range(tokens):
            _convolve(
                op[ENTRY], x + row * t, n, start, stop, taps, op[ADDRESS], op[BIAS], after, after
            )
        arrive(claims + 8)
    wait_for_pieces(claims + 8, pieces)


@njit(inner=True)
def scan_channels_of_tokens(
    op: I64, tokens: int, buffers: I64, strides: I64, states: I64, work: int, claims: int
) -> None:
    """Scan all channels; see `lrc_kernels.cpu.scan.selective`."""
    n, row = op[WIDTH], 4 * op[WIDTH]
    pieces = (n + _CHANNELS - 1) // _CHANNELS
    while True:
        start = _CHANNELS * arrive(claims)
        if start >= n:
            break
        at, count = 4 * start, min(n - start, _CHANNELS)
        _scan_channels(op[ENTRY], buffers[op[SOURCE]] + at, strides[op[SOURCE]],
                       buffers[op[KEYS]] + at, strides[op[KEYS]], op[ADDRESS] + at, row,
                       buffers[op[VALUES]], strides[op[VALUES]], buffers[op[OUTPUTS]],
                       strides[op[OUTPUTS]], op[BIAS] + at, states[op[STATE], 0] + at, row, tokens,
                       op[COUNT], count, work, buffers[op[TARGET]] + at, strides[op[TARGET]],
                       states[op[STATE], 1] + at, row)  # fmt: skip
        arrive(claims + 8)
    wait_for_pieces(claims + 8, pieces)


@njit(inner=True)
def scan_heads_of_tokens(
    op: I64, tokens: int, buffers: I64, strides: I64, states: I64, claims: int
) -> None:
    """Scan all heads; see `lrc_kernels.cpu.scan.ssd`."""
    heads, dim, size = op[STRIDE], op[WIDTH], op[COUNT]
    of_group = heads // op[KV_HEADS]
    while True:
        h = arrive(claims)
        if h >= heads:
            break
        at, group, own = 4 * dim * h, 4 * size * (h // of_group), 4 * dim * size * h
        after = states[op[STATE], 1] + own
        copy_rows(states[op[STATE], 0] + own, 1, dim * size, 0, dim * size, after)
        _scan_head(op[ENTRY], buffers[op[SOURCE]] + at, strides[op[SOURCE]],
                   buffers[op[KEYS]] + 4 * h, strides[op[KEYS]], load_f32(op[ADDRESS] + 4 * h),
                   buffers[op[VALUES]] + group, strides[op[VALUES]], buffers[op[OUTPUTS]] + group,
                   strides[op[OUTPUTS]], load_f32(op[BIAS] + 4 * h), tokens, size, dim,
                   buffers[op[TARGET]] + at, strides[op[TARGET]], after)  # fmt: skip
        arrive(claims + 8)
    wait_for_pieces(claims + 8, heads)
