"""A token's convolution and scans are those of the kernels for many tokens, bit for bit."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lrc_kernels._jit import njit
from lrc_kernels.cpu.engine import scans
from lrc_kernels.cpu.scan.causal_conv import causal_conv
from lrc_kernels.cpu.scan.selective import scan_channels, selective_scan
from lrc_kernels.cpu.scan.ssd import scan_head, ssd_scan

SEEDS = st.integers(0, 2**32)


@njit()
def _channels(entry, x, dt, b, c, a, d, before, after, states, n, start, stop, work, out):
    scans.scan_selectively(entry, x, dt, b, c, a, d, before, after, states, n, start, stop, work,
                           out)  # fmt: skip


@njit()
def _heads(entry, x, dt, b, c, a, d, before, after, states, dim, of_group, start, stop, out):
    scans.scan_heads(entry, x, dt, b, c, a, d, before, after, states, dim, of_group, start, stop,
                     out)  # fmt: skip


def normal(rng, *shapes):
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


def places(*arrays):
    return [array.ctypes.data for array in arrays]


@given(channels=st.integers(1, 70), taps=st.integers(1, 5), bias=st.booleans(), seed=SEEDS)
def test_a_convolution(channels, taps, bias, seed):
    rng = np.random.default_rng(seed)
    x, weight, shift, before = normal(rng, channels, (taps, channels), channels,
                                      (taps - 1, channels))  # fmt: skip
    expected, after = np.empty((1, channels), np.float32), np.empty_like(before)
    causal_conv(x[None], weight, shift if bias else None, before, expected, after, silu=True)
    found, found_after = np.zeros(channels + 16, np.float32), np.empty_like(before)
    found[:channels] = x
    shifts, middle = shift.ctypes.data if bias else 0, min(16, channels)
    for start, stop in ((0, middle), (middle, channels)):
        scans.convolve.kernel()(
            found.ctypes.data, channels, start, stop, taps, weight.ctypes.data, shifts,
            *places(before, found_after),
        )  # fmt: skip
    np.testing.assert_array_equal(found[:channels], expected[0])
    np.testing.assert_array_equal(found_after, after)


@given(channels=st.integers(1, 70), states=st.integers(1, 9), cut=st.integers(0, 4), seed=SEEDS)
def test_a_selective_scan(channels, states, cut, seed):
    rng = np.random.default_rng(seed)
    x, dt, b, c, a, d, before = normal(
        rng, channels, channels, states, states, (states, channels), channels, (states, channels)
    )
    dt, a = np.abs(dt), -np.abs(a)
    expected, after = np.empty((1, channels), np.float32), np.empty_like(before)
    selective_scan(x[None], dt[None], a, b[None], c[None], d, before, expected, after)
    found, found_after = np.empty(channels, np.float32), np.empty_like(before)
    work, middle = np.empty(32 * states, np.float32), min(16 * cut, channels)
    for start, stop in ((0, middle), (middle, channels)):
        if start < stop:
            _channels(scan_channels.address(), *places(x, dt, b, c, a, d, before, found_after),
                      states, channels, start, stop, *places(work, found))  # fmt: skip
    np.testing.assert_array_equal(found, expected[0])
    np.testing.assert_array_equal(found_after, after)


@given(
    groups=st.integers(1, 3), of_group=st.integers(1, 3), states=st.integers(1, 9),
    dim=st.integers(1, 40), cut=st.integers(0, 9), seed=SEEDS,
)  # fmt: skip
def test_a_scan_by_heads(groups, of_group, states, dim, cut, seed):
    rng, heads = np.random.default_rng(seed), groups * of_group
    x, dt, b, c, a, d, before = normal(
        rng, (heads, dim), heads, (groups, states), (groups, states), heads, heads,
        (heads, states, dim),
    )  # fmt: skip
    dt, a = np.abs(dt), -np.abs(a)
    expected, after = np.empty((1, heads, dim), np.float32), np.empty_like(before)
    for g in range(groups):
        own = slice(g * of_group, (g + 1) * of_group)
        ssd_scan(x[None, own], dt[None, own], a[own], b[None, g], c[None, g], d[own], before[own],
                 expected[:, own], after[own])  # fmt: skip
    found, found_after = np.empty((heads, dim), np.float32), np.empty_like(before)
    middle = min(cut, heads)
    for start, stop in ((0, middle), (middle, heads)):
        _heads(scan_head.address(), *places(x, dt, b, c, a, d, before, found_after), states, dim,
               of_group, start, stop, *places(found))  # fmt: skip
    np.testing.assert_array_equal(found, expected[0])
    np.testing.assert_array_equal(found_after, after)
