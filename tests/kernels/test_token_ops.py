"""What compiled loops do to one token: its functions within their stated errors, on every path."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, ndtr

from lrc.nn.engine import token_rules
from lrc.nn.layers import ACTIVATIONS, activate, layer_norm, rms_norm, soft_cap
from lrc.nn.ops import Pass
from lrc.nn.routing import Route
from lrc.testing.tolerance import eps, sum_bound
from lrc_kernels._jit import njit
from lrc_kernels.cpu.engine import norms, table
from lrc_kernels.simd import paths as simd_paths

KINDS = {kind: code for kind, code in token_rules.KINDS.items() if kind in ACTIVATIONS}
#: Numbers of every size, the borders of pieces among them.
NUMBERS = np.concatenate(
    [np.linspace(-12, 12, 4001), [0.625, -0.625, 0, 1e-30, -1e-8, 90, -90, 1e4, -1e4]]
).astype(np.float32)


@njit()
def _compute(code, count, width, stride, kind, first, address, bias, number, other, x, y, cos, sin):
    table.compute(
        code, count, width, stride, kind, first, address, bias, number, other, x, y, cos, sin
    )


def computed(code, y, *, x=None, numbers=(0.0, 0.0), address=None, bias=None, **columns):
    """The target, f32 (n,), after an operation on a copy of it."""
    room = np.zeros(-(-len(y) // 16) * 16, np.float32)
    room[: len(y)] = y
    x = room if x is None else np.pad(x, (0, 16))
    row = table.row(code, **columns)
    places = [0 if a is None else a.ctypes.data for a in (address, bias, x, room)]
    columns = [table.COUNT, table.WIDTH, table.STRIDE, table.KIND, table.FIRST]
    floats = [np.float32(number) for number in numbers]
    _compute(code, *(row[c] for c in columns), *places[:2], *floats, *places[2:], 0, 0)
    return room[: len(y)]


def activated(kind, x):
    return computed(table.ACTIVATE, x, width=len(x), kind=KINDS[kind])


def capped(x, cap):
    return computed(table.SOFT_CAP, x, width=len(x), numbers=(cap, 0))


def test_a_hyperbolic_tangent_has_three_units():
    expected = np.tanh(NUMBERS.astype(np.float64))
    np.testing.assert_allclose(capped(NUMBERS, 1.0), expected, rtol=2 * eps(np.float32), atol=0)


@pytest.mark.parametrize("cap", [30.0, 0.5])
def test_soft_caps(cap):
    expected = soft_cap(NUMBERS.astype(np.float64), cap)
    found = capped(NUMBERS, cap)
    np.testing.assert_allclose(found, expected, rtol=4 * eps(np.float32), atol=0)


def test_the_normal_distribution_has_its_stated_error():
    x = NUMBERS[NUMBERS != 0].astype(np.float64)
    error = activated("gelu", x.astype(np.float32)) / x - ndtr(x)
    assert np.abs(error).max() < 3e-7


def test_all_activations_are_known():
    assert set(KINDS) == set(ACTIVATIONS)


@pytest.mark.parametrize("kind", KINDS)
def test_activations_are_those_of_the_layers(kind):
    found, expected = activated(kind, NUMBERS), activate(kind, NUMBERS[None])[0]
    error = np.abs(found - expected) / np.maximum(1, np.abs(expected))
    assert error.max() < (1e-6 if kind == "gelu" else 8 * eps(np.float32))


@pytest.mark.parametrize("kind", KINDS)
def test_gates_are_activations_times_the_other(kind):
    up = NUMBERS[::-1].copy()
    found = computed(table.GATE, NUMBERS, x=up, width=len(up), kind=KINDS[kind])
    np.testing.assert_array_equal(found, activated(kind, NUMBERS) * up)


@pytest.mark.parametrize("kind", [*KINDS, "cap"])
def test_what_is_no_number_stays_none(kind):
    x = np.array([1, np.nan, 2], np.float32)
    found = capped(x, 2.0) if kind == "cap" else activated(kind, x)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(x))


@pytest.mark.parametrize("n", [1, 16, 37, 160])
@pytest.mark.parametrize("bias", [False, True])
def test_norms(n, bias):
    rng = np.random.default_rng(n)
    x, weight, shift = (3 + rng.standard_normal((3, n))).astype(np.float32)
    kept = {"x": x, "address": weight, "bias": shift if bias else None}
    for kind, expected in (
        (norms.LAYER, layer_norm(x, weight, shift if bias else None, 1e-5)),
        (norms.RMS, rms_norm(x, weight, 1e-5) + (shift if bias else 0)),
    ):
        found = computed(table.NORM, x, count=1, width=n, kind=kind, numbers=(1e-5, 0), **kept)
        bound = sum_bound(n, np.float32, float(np.abs(expected).max() + 10))
        np.testing.assert_allclose(found, expected, atol=bound)


@pytest.mark.parametrize("n", [1, 16, 37])
@pytest.mark.parametrize(("least", "most"), [(0.0, np.inf), (0.3, 1.5)])
def test_softplus(n, least, most):
    rng = np.random.default_rng(n)
    x, bias = (5 * rng.standard_normal((2, n))).astype(np.float32)
    for own in (None, bias):
        found = computed(table.SOFTPLUS, x, width=n, bias=own, numbers=(least, most))
        sums = x if own is None else x + own
        expected = np.clip(np.logaddexp(0, sums.astype(np.float64)), least, most)
        np.testing.assert_allclose(found, expected, rtol=4 * eps(np.float32))


@given(
    experts=st.integers(1, 40), top=st.integers(1, 8), normalised=st.booleans(),
    ties=st.booleans(), seed=st.integers(0, 2**32),
)  # fmt: skip
def test_routes_are_those_of_the_rule(experts, top, normalised, ties, seed):
    scores = np.random.default_rng(seed).standard_normal(experts).astype(np.float32)
    scores = np.round(scores) if ties else scores
    top = min(top, experts)
    rule = Route(np.eye(experts, dtype=np.float32), "x", "r", top, normalised)
    (expected,) = rule.run({"x": scores[None, None]}, Pass(np.arange(1)))
    found = computed(
        table.ROUTE, np.zeros(experts, np.float32), x=scores, width=experts, count=top,
        kind=int(normalised),
    )  # fmt: skip
    np.testing.assert_array_equal(found > 0, expected[0, 0] > 0)
    np.testing.assert_allclose(found, expected[0, 0], rtol=16 * eps(np.float32))


def test_a_number_of_another_value_weighs():
    rng = np.random.default_rng(4)
    y, x, weight = rng.standard_normal((3, 21)).astype(np.float32)
    found = computed(table.WEIGH, y, x=x, width=21, first=5)
    np.testing.assert_array_equal(found, y * x[5])
    found = computed(table.WEIGH_BY_SIGMOID, y, x=x, width=21, count=21, address=weight)
    np.testing.assert_allclose(found, y * expit(x @ weight), rtol=32 * eps(np.float32))
    matrix = rng.standard_normal((7, 21)).astype(np.float32)
    zeros = np.zeros(7, np.float32)
    found = computed(table.PROJECT, zeros, x=x, count=7, width=21, address=matrix)
    np.testing.assert_allclose(found, matrix @ x, atol=sum_bound(21, np.float32, 30))


def all_results():
    """Everything that is computed on vectors, on fixed numbers."""
    found = [activated(kind, NUMBERS) for kind in KINDS] + [capped(NUMBERS, 3.0)]
    weight = np.linspace(0.5, 1.5, 37).astype(np.float32)
    how = {"x": NUMBERS[100:137], "address": weight, "bias": weight, "numbers": (1e-5, 0)}
    found += [
        computed(table.NORM, weight, count=1, width=37, kind=kind, **how)
        for kind in (norms.RMS, norms.LAYER)
    ]
    found.append(computed(table.SOFTPLUS, NUMBERS, width=len(NUMBERS), numbers=(0.0, np.inf)))
    found.append(computed(table.ROUTE, NUMBERS[:37], x=NUMBERS[9:46], width=37, count=5))
    return np.concatenate(found)


_CHILD = """
import sys
import numpy as np
sys.path.insert(0, sys.argv[2])
import test_token_ops
from lrc_kernels.simd import paths as simd_paths
assert simd_paths.path() == sys.argv[3]
np.save(sys.argv[1], test_token_ops.all_results())
"""
#: Processors that have what a path needs and little more.
PROCESSORS = {"avxvnni": "alderlake", "avx2": "haswell", "generic": "generic"}


@pytest.mark.parametrize("path", [p for p in simd_paths.PATHS if p != simd_paths.path()])
def test_every_path_gives_the_same_bits(path, tmp_path):
    if path not in simd_paths.available_paths():
        pytest.skip(f"this machine has no {path}")
    out = tmp_path / "results.npy"
    folder = os.path.dirname(os.path.abspath(__file__))
    forced = {simd_paths.SWITCH: path}
    if path in PROCESSORS and platform.machine() in ("x86_64", "AMD64"):
        forced |= {"NUMBA_CPU_NAME": PROCESSORS[path], "NUMBA_CPU_FEATURES": ""}
    subprocess.run(
        [sys.executable, "-c", _CHILD, str(out), folder, path],
        check=True,
        env={**os.environ, **forced},
    )
    np.testing.assert_array_equal(np.load(out), all_results())
