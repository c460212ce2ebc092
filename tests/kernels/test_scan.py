"""Scans and convolutions of state-space layers equal their plain twins, however they are cut."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lrc.base.threads import ordered_map
from lrc.testing.tolerance import assert_within, eps, sum_bound
from lrc_kernels import scan_reference as reference
from lrc_kernels.cpu.scan.causal_conv import causal_conv
from lrc_kernels.cpu.scan.selective import selective_scan
from lrc_kernels.cpu.scan.softplus import softplus
from lrc_kernels.cpu.scan.ssd import ssd_scan

Array = NDArray[np.float32]
WIDTHS = st.one_of(st.integers(1, 40), st.sampled_from([48, 64, 100]))
SEEDS = st.integers(3, 2**32)


def run(kernel: Callable[..., None], *given: Any, **options: Any) -> tuple[Array, Array]:
    """What a kernel makes of its arguments, of which the last is the state."""
    out, out_state = np.full_like(given[0], 7), np.full_like(given[-1], 7)
    before = [None if a is None else a.copy() for a in given]
    kernel(*given, out, out_state, **options)
    for argument, kept in zip(given, before, strict=True):
        np.testing.assert_array_equal(argument, kept)
    return out, out_state


@dataclass(frozen=True)
class Scan:
    """Random arguments of a scan, and how to cut them."""

    kernel: Callable[..., None]
    slow: Callable[..., tuple[Array, Array]]
    given: tuple[Array, ...]
    #: Of each argument: its axis of tokens and its axis of channels or heads, -1 for none.
    tokens: tuple[int, ...]
    channels: tuple[int, ...]

    def cut(self, axes: tuple[int, ...], part: slice) -> tuple[Array, ...]:
        def one(array: Array, axis: int) -> Array:
            return array if axis < 0 else array[(slice(None),) * axis + (part,)]

        return tuple(one(*pair) for pair in zip(self.given, axes, strict=True))

    def magnitudes(self) -> tuple[Array, ...]:
        """The same arguments, but all sums are of positive terms."""
        return tuple(np.abs(a) if i != 2 else a for i, a in enumerate(self.given))


def selective_case(tokens: int, channels: int, states: int, seed: int) -> Scan:
    rng = np.random.default_rng(seed)
    given = (
        rng.standard_normal((tokens, channels)), rng.uniform(1e-3, 2, (tokens, channels)),
        -np.exp(rng.uniform(-3, 3, (states, channels))), rng.standard_normal((tokens, states)),
        rng.standard_normal((tokens, states)), rng.standard_normal(channels),
        rng.standard_normal((states, channels)),
    )  # fmt: skip
    floats = tuple(a.astype(np.float32) for a in given)
    axes = (0, 0, -1, 0, 0, -1, -1), (1, 1, 1, -1, -1, 0, 1)
    return Scan(selective_scan, reference.selective_scan, floats, *axes)


def ssd_case(tokens: int, channels: int, states: int, seed: int) -> Scan:
    rng = np.random.default_rng(seed)
    heads = 1 + seed % 3
    given = (
        rng.standard_normal((tokens, heads, channels)), rng.uniform(1e-3, 2, (tokens, heads)),
        -np.exp(rng.uniform(-3, 3, heads)), rng.standard_normal((tokens, states)),
        rng.standard_normal((tokens, states)), rng.standard_normal(heads),
        rng.standard_normal((heads, states, channels)),
    )  # fmt: skip
    floats = tuple(a.astype(np.float32) for a in given)
    axes = (0, 0, -1, 0, 0, -1, -1), (1, 1, 0, -1, -1, 0, 0)
    return Scan(ssd_scan, reference.ssd_scan, floats, *axes)


CASES = {"selective": selective_case, "ssd": ssd_case}
scans = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
sizes = {"tokens": st.integers(0, 20), "channels": WIDTHS, "states": st.integers(1, 20)}


@scans
@given(**sizes, seed=SEEDS)
def test_a_scan_equals_the_reference(case, tokens, channels, states, seed):
    scan = case(tokens, channels, states, seed)
    fast, slow = run(scan.kernel, *scan.given), scan.slow(*scan.given)
    largest = scan.slow(*scan.magnitudes())
    for got, expected, size in zip(fast, slow, largest, strict=True):
        assert got.dtype == np.float32
        bound = sum_bound(tokens * states + 1, np.float32, float(size.max(initial=0)))
        assert_within(float(np.abs(got - expected).max(initial=0)), bound)


@scans
@given(**sizes, at=st.integers(0, 20), seed=SEEDS)
def test_chunks_with_a_carried_state_are_the_whole(case, tokens, channels, states, at, seed):
    scan = case(tokens, channels, states, seed)
    whole, state = run(scan.kernel, *scan.given)
    first, middle = run(scan.kernel, *scan.cut(scan.tokens, slice(at)))
    rest = scan.cut(scan.tokens, slice(at, None))[:-1]
    second, last = run(scan.kernel, *rest, middle)
    np.testing.assert_array_equal(np.concatenate([first, second]), whole)
    np.testing.assert_array_equal(last, state)


@scans
@pytest.mark.parametrize("threads", [1, 3])
def test_any_cut_of_the_channels_on_any_thread_gives_the_same_bits(case, threads):
    """Parts are views of the whole arrays, whose rows lie apart."""
    scan = case(9, 70, 5, 5)
    whole, state = run(scan.kernel, *scan.given)
    out, out_state = np.zeros_like(whole), np.zeros_like(state)

    def part(piece: slice) -> None:
        to = out_state[(slice(None),) * scan.channels[-1] + (piece,)]
        scan.kernel(*scan.cut(scan.channels, piece), out[:, piece], to)

    cuts = (0, 1, 2, 23, 55, 70) if case is selective_case else (0, 1, 3)
    pieces = [slice(a, b) for a, b in itertools.pairwise(cuts)]
    assert list(ordered_map(part, pieces, threads)) == [None] * len(pieces)
    np.testing.assert_array_equal(out, whole)
    np.testing.assert_array_equal(out_state, state)


@scans
def test_a_scan_may_replace_its_inputs_and_its_state(case):
    scan = case(6, 40, 3, 9)
    out, state = run(scan.kernel, *scan.given)
    x, *others, carried = (a.copy() for a in scan.given)
    scan.kernel(x, *others, carried, x, carried)
    np.testing.assert_array_equal(x, out)
    np.testing.assert_array_equal(carried, state)


@scans
def test_a_scan_refuses_what_does_not_fit(case):
    scan = case(6, 40, 3, 9)
    for place in range(len(scan.given)):
        wrong = list(scan.given)
        wrong[place] = wrong[place].astype(np.float64)
        with pytest.raises(ValueError, match="must be float32 of shape"):
            scan.kernel(*wrong, wrong[0].copy(), scan.given[-1].copy())
    x, *others = scan.given
    apart = np.repeat(x, 2, axis=-1)[..., ::2]
    with pytest.raises(ValueError, match="contiguous along its last axis"):
        scan.kernel(apart, *others, x.copy(), others[-1].copy())


def conv_case(tokens, channels, taps, seed):
    rng = np.random.default_rng(seed)
    given = rng.standard_normal((tokens, channels)), rng.standard_normal((taps, channels))
    bias = rng.standard_normal(channels) if seed % 2 else None
    found = *given, bias, rng.standard_normal((taps - 1, channels))
    return tuple(None if a is None else a.astype(np.float32) for a in found)


conv_sizes = {"tokens": st.integers(0, 12), "channels": WIDTHS, "taps": st.integers(1, 6)}


@given(**conv_sizes, silu=st.booleans(), seed=SEEDS)
def test_a_convolution_equals_the_reference(tokens, channels, taps, silu, seed):
    given = conv_case(tokens, channels, taps, seed)
    fast = run(causal_conv, *given, silu=silu)
    slow = reference.causal_conv(*given, silu=silu)
    sizes = reference.causal_conv(*(None if a is None else np.abs(a) for a in given), silu=False)
    bound = sum_bound(taps + 1, np.float32, float(sizes[0].max(initial=0)))
    assert_within(float(np.abs(fast[0] - slow[0]).max(initial=0)), bound)
    np.testing.assert_array_equal(fast[1], slow[1])


@given(**conv_sizes, at=st.integers(0, 12), seed=SEEDS)
def test_a_convolution_of_chunks_is_that_of_the_whole(tokens, channels, taps, at, seed):
    x, weight, bias, state = conv_case(tokens, channels, taps, seed)
    whole, last = run(causal_conv, x, weight, bias, state, silu=True)
    first, middle = run(causal_conv, x[:at], weight, bias, state, silu=True)
    causal_conv(x[at:], weight, bias, middle, out := np.empty_like(x[at:]), middle, silu=True)
    np.testing.assert_array_equal(np.concatenate([first, out]), whole)
    np.testing.assert_array_equal(middle, last)


def test_a_convolution_refuses_what_does_not_fit():
    x, weight, bias, state = conv_case(3, 8, 4, 3)
    with pytest.raises(ValueError, match=r"state must be float32 of shape \(3, 8\)"):
        causal_conv(x, weight, bias, state[1:], x.copy(), state[1:].copy(), silu=False)
    with pytest.raises(ValueError, match=r"bias must be float32 of shape \(8,\)"):
        causal_conv(x, weight, bias[1:], state, x.copy(), state.copy(), silu=False)


@given(rows=st.integers(0, 3), n=WIDTHS, scale=st.sampled_from([1e-6, 1.0, 15.0]), seed=SEEDS)
def test_softplus_is_right_to_a_few_units_in_the_last_place(rows, n, scale, seed):
    x = (scale * np.random.default_rng(seed).standard_normal((rows, n))).astype(np.float32)
    out = np.empty_like(x)
    softplus(x, out)
    slow = reference.softplus(x)
    assert_within(float((np.abs(out - slow) / slow).max(initial=0)), 8 * eps(np.float32))
    softplus(x, x)
    np.testing.assert_array_equal(x, out)


def test_softplus_far_from_zero():
    x = np.array([[-3e38, -1e4, -87, 87, 1e4, 3e38, np.nan]], np.float32)
    out = np.empty_like(x)
    softplus(x, out)
    np.testing.assert_allclose(out, [[0, 0, 0, 87, 1e4, 3e38, np.nan]], rtol=1e-6, atol=1e-37)
