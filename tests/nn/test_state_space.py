"""Operations of state-space layers: their definitions, threads, and what they leave in a cache."""

from __future__ import annotations

import numpy as np
import pytest

from lrc.nn.cache import KVCache
from lrc.nn.engine.team import Team
from lrc.nn.execution import Execution
from lrc.nn.ops import Op, Pass, new_cache, run
from lrc.nn.ssd import SsdScan
from lrc.nn.state_space import Convolve, SelectiveScan, Softplus
from lrc.testing.tolerance import assert_within, relative_difference, sum_bound
from lrc_kernels import scan_reference as reference

BATCH, TOKENS, CHANNELS, STATES, GROUPS, HEADS, DIM = 2, 21, 300, 5, 2, 10, 7
Values = dict[str, np.ndarray]


def normal(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def positive(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.01, 1, shape).astype(np.float32)


CONVOLVE = Convolve("x", normal(4, CHANNELS, seed=1), normal(CHANNELS, seed=2), "inputs")
SELECTIVE = SelectiveScan(
    "x", "dt", "B", "C", "y", -positive(STATES, CHANNELS, seed=3), normal(CHANNELS, seed=4), "h"
)
SSD = SsdScan(
    "x", "dt", "B", "C", "y", -positive(HEADS, seed=3), normal(HEADS, seed=4), DIM, STATES,
    GROUPS, "h",
)  # fmt: skip
SOFTPLUS = Softplus("x", normal(CHANNELS, seed=5), 0.5, 1.5)


def selective_values() -> Values:
    wide = {"x": normal(BATCH, TOKENS, CHANNELS, seed=6), "dt": positive(2, TOKENS, 300, seed=7)}
    return wide | {n: normal(BATCH, TOKENS, STATES, seed=i) for i, n in enumerate("BC")}


def ssd_values() -> Values:
    shared = {n: normal(BATCH, TOKENS, GROUPS * STATES, seed=i) for i, n in enumerate("BC")}
    steps = positive(BATCH, TOKENS, HEADS, seed=7)
    return shared | {"x": normal(BATCH, TOKENS, HEADS * DIM, seed=6), "dt": steps}


def convolved(values: Values, b: int) -> np.ndarray:
    state = np.zeros((3, CHANNELS))
    return reference.causal_conv(
        values["x"][b], CONVOLVE.weight, CONVOLVE.bias, state, silu=True
    )[0]  # fmt: skip


def scanned(values: Values, b: int) -> np.ndarray:
    state = np.zeros((STATES, CHANNELS))
    x, dt, B, C = (values[name][b] for name in SELECTIVE.reads)
    return reference.selective_scan(x, dt, SELECTIVE.decay, B, C, SELECTIVE.skip, state)[0]


def scanned_by_heads(values: Values, b: int) -> np.ndarray:
    x, dt, B, C = (values[name][b] for name in SSD.reads)
    x, B, C = x.reshape(TOKENS, HEADS, DIM), *(v.reshape(TOKENS, GROUPS, STATES) for v in (B, C))
    parts = np.split(np.arange(HEADS), GROUPS)
    state = np.zeros((HEADS // GROUPS, STATES, DIM))
    found = [
        reference.ssd_scan(
            x[:, h], dt[:, h], SSD.decay[h], B[:, g], C[:, g], SSD.skip[h], state
        )[0]
        for g, h in enumerate(parts)
    ]  # fmt: skip
    return np.concatenate(found, axis=1).reshape(TOKENS, -1)


def limited(values: Values, b: int) -> np.ndarray:
    return np.clip(reference.softplus(values["x"][b] + SOFTPLUS.bias), 0.5, 1.5)


CASES = {
    "convolution": (CONVOLVE, selective_values(), convolved),
    "selective": (SELECTIVE, selective_values(), scanned),
    "heads": (SSD, ssd_values(), scanned_by_heads),
    "softplus": (SOFTPLUS, selective_values(), limited),
}
cases = pytest.mark.parametrize(("op", "values", "expected"), CASES.values(), ids=CASES)


def result(op: Op, values: Values, execution: Execution, cache: KVCache | None = None):
    start = 0 if cache is None else cache.length
    tokens = next(iter(values.values())).shape[1]
    at = Pass(np.arange(start, start + tokens), cache, execution)
    found = run([op], values, at)[op.writes[0]]
    if cache is not None:
        cache.advance(tokens)
    return found


@cases
def test_every_sequence_is_computed_by_the_definition(op, values, expected):
    kept = {name: value.copy() for name, value in values.items()}
    found = result(op, values, Execution())
    for b in range(BATCH):
        bound = sum_bound(TOKENS * STATES, np.float32)
        assert_within(relative_difference(found[b], expected(values, b)), bound)
    for name, value in values.items():
        np.testing.assert_array_equal(value, kept[name])


@cases
def test_threads_change_no_bit(op, values, expected):
    alone = result(op, values, Execution())
    for threads in (1, 3):
        execution = Execution(Team(threads))
        np.testing.assert_array_equal(result(op, values, execution), alone)


@cases
@pytest.mark.parametrize("cut", [1, 2, 20])
def test_a_text_in_two_parts_is_the_same_text(op, values, expected, cut):
    cache = new_cache([op], BATCH, TOKENS)
    parts = slice(None, cut), slice(cut, None)
    found = [
        result(op, {n: v[:, part] for n, v in values.items()}, Execution(), cache)
        for part in parts
    ]  # fmt: skip
    whole = result(op, values, Execution())
    np.testing.assert_array_equal(np.concatenate(found, axis=1), whole)


def test_a_state_is_replaced_when_the_cache_goes_on():
    cache = new_cache([SELECTIVE], BATCH, TOKENS)
    at = Pass(np.arange(TOKENS), cache)
    values = selective_values()
    first, again = (run([SELECTIVE], values, at)["y"] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not cache.states["h"].any()
    cache.advance(TOKENS)
    assert cache.states["h"].all()
    assert cache.nbytes == cache.states["h"].nbytes
