"""State-space layers: states before tokens are read, and those after them written."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core import types

from lrc_kernels._jit import njit
from lrc_kernels._late import late
from lrc_kernels.cpu.scan.selective import scan_channels
from lrc_kernels.cpu.scan.ssd import scan_head
from lrc_kernels.simd.math import exp_f32
from lrc_kernels.simd.values import (
    first_f32x16,
    load_f32,
    splat_f32x16,
    store_f32,
    store_f32x16,
    store_first_f32x16,
)

_scan_channels, _scan_head = scan_channels.call, scan_head.call


@late(*(types.intp,) * 9)
def convolve() -> Any:
    """Convolutions of a token's channels with those before it."""

    def run(
        x: int, n: int, start: int, stop: int, taps: int, weight: int, bias: int, before: int,
        after: int,
    ) -> None:  # fmt: skip
        """Convolve channels ``start`` to ``stop`` of x f32 (n,), then silu, in place.

        ``weight`` f32 (taps, n), ``bias`` f32 (n,) or 0; ``before``: the inputs of the tokens
        before, f32 (taps - 1, n), ``after``: those that the next one needs, which may be the same
        memory.
        """
        one, zero = splat_f32x16(np.float32(1)), splat_f32x16(np.float32(0))
        for c in range(start, stop, 16):
            at, count = 4 * c, n - c
            value, total = first_f32x16(x + at, count), zero
            if bias != 0:
                total = first_f32x16(bias + at, count)
            for k in range(taps - 1):
                old = first_f32x16(before + 4 * n * k + at, count)
                total = total + first_f32x16(weight + 4 * n * k + at, count) * old
                if k > 0:
                    store_first_f32x16(after + 4 * n * (k - 1) + at, old, count)
            total = total + first_f32x16(weight + 4 * n * (taps - 1) + at, count) * value
            if taps > 1:
                store_first_f32x16(after + 4 * n * (taps - 2) + at, value, count)
            store_f32x16(x + at, total / (one + exp_f32(zero - total)))

    return run


@njit(inner=True)
def copy_rows(source: int, rows: int, n: int, start: int, stop: int, target: int) -> None:
    """Columns ``start`` to ``stop`` of f32 (rows, n)."""
    for r in range(rows):
        for i in range(start, stop):
            at = 4 * (n * r + i)
            store_f32(target + at, load_f32(source + at))


@njit(inner=True)
def scan_selectively(
    entry: int, x: int, dt: int, b: int, c: int, decay: int, skip: int, before: int, after: int,
    states: int, n: int, start: int, stop: int, work: int, out: int,
) -> None:  # fmt: skip
    """Channels ``start`` to ``stop`` of n; see `lrc_kernels.cpu.scan.selective`."""
    at, row = 4 * start, 4 * n
    _scan_channels(entry, x + at, 0, dt + at, 0, decay + at, row, b, 0, c, 0, skip + at,
                  before + at, row, 1, states, stop - start, work, out + at, 0, after + at,
                  row)  # fmt: skip


@njit(inner=True)
def scan_heads(
    entry: int, x: int, dt: int, b: int, c: int, decay: int, skip: int, before: int, after: int,
    states: int, dim: int, of_group: int, start: int, stop: int, out: int,
) -> None:  # fmt: skip
    """Heads ``start`` to ``stop``, so many of a group; see `lrc_kernels.cpu.scan.ssd`."""
    for h in range(start, stop):
        at, group, own = 4 * dim * h, 4 * states * (h // of_group), 4 * dim * states * h
        copy_rows(before + own, 1, dim * states, 0, dim * states, after + own)
        _scan_head(entry, x + at, 0, dt + 4 * h, 0, load_f32(decay + 4 * h), b + group, 0,
                  c + group, 0, load_f32(skip + 4 * h), 1, states, dim, out + at, 0,
                  after + own)  # fmt: skip
