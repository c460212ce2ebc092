"""LDLQ: what feedback rounding is, for every codebook of the table."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from budget import few
from codebook_cases import ROWWISE
from hypothesis import given
from hypothesis import strategies as st
from toy_quantizers import Integers, RandomRounder

import lrc.quant.ldlq as ldlq_module
from lrc.linalg.factor import block_ldl, factor, feedback_matrix
from lrc.quant import quantizer as encoder
from lrc.quant.ldlq import Grid, ldlq, round_to_nearest
from lrc.testing.laws import (
    check_codes_match,
    check_error_identity,
    check_feedback_rounding,
    quadratic_loss,
)
from lrc.testing.strategies import problems, seeds
from lrc.testing.tolerance import assert_within, factor_bound

F32 = np.float32
ONE = np.ones((1, 1), F32)
TOYS = {("integers", 32): Integers, ("random", 32): RandomRounder}
every = pytest.mark.parametrize("key", ROWWISE, ids=str)
#: A few of each kind where the width adds nothing.
some = pytest.mark.parametrize(
    "key", [("e8p", 2), ("e8p-rvq3", 3), ("uniform", 2), ("lloyd-max", 4)], ids=str
)


def made(key):
    return TOYS[key]() if key in TOYS else encoder(*key)


def grid_for(key, W):
    quantizer = made(key)
    size = np.sqrt(np.square(W, dtype=np.float64).mean()) / quantizer.input_scale
    return Grid(quantizer, np.full((1, 1), size or 1.0, F32))


def dyadic(m, n, seed):
    """Weights and feedback in small binary fractions: sums are exact in any order."""
    rng = np.random.default_rng(seed)
    W = (rng.integers(-48, 49, (m, n)) / 16).astype(F32)
    feedback = rng.choice([-0.125, 0.0, 0.125], (n, n), p=[0.1, 0.8, 0.1]).astype(F32)
    return W, feedback


def lower(feedback, b):
    block = np.arange(len(feedback)) // b
    return np.where(block[:, None] > block, feedback, F32(0))


def plain_ldlq(W, feedback, grid):
    """The definition: no panels, no buffers, float64 sums."""
    m, n = W.shape
    b = grid.quantizer.block_size
    Q, E = np.zeros((2, m, n))
    codes = {}
    for a in reversed(range(0, n, b)):
        z = min(a + b, n)
        target = W[:, a:z] + E[:, z:] @ feedback[z:, a:z].astype(np.float64)
        codes[a], Q[:, a:z] = grid.round(target.astype(F32), slice(a, z))
        E[:, a:z] = W[:, a:z] - Q[:, a:z]
    ordered = [codes[a] for a in sorted(codes)]
    return Q, tuple(np.concatenate(p, axis=1) for p in zip(*ordered, strict=True))


@pytest.mark.parametrize("key", [("integers", 32), ("uniform", 3), ("e8p", 2)], ids=str)
@given(n=st.integers(1, 40), seed=seeds())
def test_equals_the_definition_exactly(key, n, seed):
    W, feedback = dyadic(3, n, seed)
    grid = Grid(made(key), ONE)
    feedback = lower(feedback, grid.quantizer.block_size)
    found = ldlq(W, feedback, grid)
    Q, codes = plain_ldlq(W, feedback, grid)
    np.testing.assert_array_equal(found.values, Q)
    for mine, theirs in zip(found.codes, codes, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("column_panel", [1, 8, 24, 64, 128, 512])
@pytest.mark.parametrize("key", [("integers", 32), ("e8p", 2)], ids=str)
def test_panels_of_any_width_give_the_same_codes(key, column_panel, monkeypatch):
    W, feedback = dyadic(4, 269, 4021)
    grid = Grid(made(key), ONE)
    feedback = lower(feedback, grid.quantizer.block_size)
    monkeypatch.setattr(ldlq_module, "COLUMN_PANEL", column_panel)
    found = ldlq(W, feedback, grid)
    Q, (codes,) = plain_ldlq(W, feedback, grid)
    np.testing.assert_array_equal(found.values, Q)
    np.testing.assert_array_equal(found.codes[0], codes)


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_rows_are_independent_whatever_the_chunks_and_threads(rows, monkeypatch):
    W, feedback = dyadic(7, 50, 4023)
    grid = Grid(Integers(), np.linspace(0.5, 2, 7).astype(np.float16).astype(F32)[:, None])
    feedback = lower(feedback, 1)
    whole = ldlq(W, feedback, grid)
    monkeypatch.setattr(ldlq_module, "_CHUNK_ROWS", rows)
    for threads in (1, 2):
        found = ldlq(W, feedback, grid, threads=threads)
        np.testing.assert_array_equal(found.codes[0], whole.codes[0])
        np.testing.assert_array_equal(found.values, whole.values)


@some
@few(4)
@given(data=st.data())
def test_any_weights_round_to_what_feedback_asks(key, data):
    W, H = data.draw(problems())
    grid = grid_for(key, W)
    b = grid.quantizer.block_size
    C = factor(H).cholesky
    before = W.copy(), H.copy()
    found = ldlq(W, feedback_matrix(C, b), grid)
    assert found.values.dtype == F32
    check_codes_match(grid, found)
    check_error_identity(W, found.values, H, block_ldl(C, b))
    if "rvq" not in key[0]:  # their second stage is greedy
        check_feedback_rounding(W, feedback_matrix(C, b), grid, found)
    np.testing.assert_array_equal(W, before[0])
    np.testing.assert_array_equal(H, before[1])


@few(4)
@given(data=st.data())
def test_error_identity_holds_for_a_random_rounder(data):
    W, H = data.draw(problems())
    C = factor(H).cholesky
    found = ldlq(W, feedback_matrix(C, 1), grid_for(("random", 32), W))
    check_error_identity(W, found.values, H, block_ldl(C, 1))


@every
@few(5)
@given(data=st.data(), c=st.integers(-3, 3))
def test_a_white_metric_asks_for_the_nearest(key, data, c):
    W, _ = data.draw(problems())
    grid = grid_for(key, W)
    n = W.shape[1]
    C = factor(4.0**c * np.eye(n)).cholesky
    found = ldlq(W, feedback_matrix(C, grid.quantizer.block_size), grid)
    nearest = round_to_nearest(W, grid)
    np.testing.assert_array_equal(found.values, nearest.values)
    for mine, theirs in zip(found.codes, nearest.codes, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    check_codes_match(grid, nearest)


@some
@few(8)
@given(data=st.data(), p=st.integers(-8, 8))
def test_scaling_h_or_w_with_its_scale_changes_no_code(key, data, p):
    W, H = data.draw(problems())
    grid = grid_for(key, W)
    b = grid.quantizer.block_size
    feedback = feedback_matrix(factor(H).cholesky, b)
    found = ldlq(W, feedback, grid)
    np.testing.assert_array_equal(feedback_matrix(factor(4.0**p * H).cholesky, b), feedback)
    c = F32(2.0**p)
    scaled = ldlq(W * c, feedback, Grid(grid.quantizer, grid.scale * c))
    np.testing.assert_array_equal(scaled.codes[0], found.codes[0])
    np.testing.assert_array_equal(scaled.values, found.values * c)


@few(2)
@given(data=st.data())
def test_unclipped_rounding_obeys_its_bound(data):
    """Each error of eta is at most 1/2, so the loss is at most m tr(D) / 4."""
    W, H = data.draw(problems(max_log10_cond=3.0))
    W = W / max(float(np.abs(W).max()), 1e-30) * F32(50)
    ldl = block_ldl(factor(H).cholesky, 1)
    feedback = feedback_matrix(factor(H).cholesky, 1)
    found = ldlq(W, feedback, Grid(Integers(), ONE))
    limit = len(W) * ldl.diagonal.sum() / 4
    E = W.astype(np.float64) - found.values
    size = np.linalg.norm(ldl.unit, 2) * (50 * np.sqrt(W.size) + np.linalg.norm(E))
    slack = factor_bound(len(H), F32) * size * np.sqrt(ldl.diagonal.max() * limit)
    assert_within(quadratic_loss(E, H), limit + slack, "loss")


def random_moment(n, rng):
    V = np.linalg.qr(rng.standard_normal((n, n)))[0]
    return (V * np.geomspace(1, 1e-3, n)) @ V.T


def test_unclipped_loss_is_a_twelfth_of_tr_d_a_row():
    """Errors of eta are uniform in +-1/2: mean loss m tr(D) / 12, here within 4 s.e. (2 %)."""
    rng = np.random.default_rng(4027)
    m, n = 1500, 24
    H = random_moment(n, rng)
    W = (20 * rng.standard_normal((m, n))).astype(F32)
    C = factor(H).cholesky
    d = block_ldl(C, 1).diagonal.ravel()
    found = ldlq(W, feedback_matrix(C, 1), Grid(Integers(), ONE))
    mean = quadratic_loss(W - found.values, H) / m
    error = np.sqrt((d**2).sum() / 180 / m)  # the square of a uniform has variance 1/180
    assert abs(mean - d.sum() / 12) < 4 * error
    nearest = round_to_nearest(W, Grid(Integers(), ONE))
    assert quadratic_loss(W - nearest.values, H) / m > 1.5 * mean


@pytest.mark.parametrize("key", [("integers", 32), *ROWWISE], ids=str)
def test_feedback_beats_nearest_rounding_on_average(key):
    rng = np.random.default_rng(4029)
    ratios = []
    block = encoder(*key).block_size if key in ROWWISE else 1
    n = 24 if block == 1 else (3 if block < 64 else 2) * math.lcm(8, block)
    for _ in range(12 if block < 64 else 6):
        H = random_moment(n, rng)
        W = rng.standard_normal((8, n)).astype(F32)
        grid = grid_for(key, W) if key in ROWWISE else Grid(Integers(), ONE / 4)
        feedback = feedback_matrix(factor(H).cholesky, grid.quantizer.block_size)
        losses = [
            quadratic_loss(W - r.values, H)
            for r in (ldlq(W, feedback, grid), round_to_nearest(W, grid))
        ]
        ratios.append(np.log(losses[0] / losses[1]))
    error = np.std(ratios, ddof=1) / np.sqrt(len(ratios))
    assert np.mean(ratios) + 4 * error < 0


@every
def test_zero_scales_and_ragged_columns(key):
    quantizer = encoder(*key)
    W = np.random.default_rng(4031).standard_normal((3, 13)).astype(F32)
    grid = Grid(quantizer, np.array([[1.0], [0.0], [0.5]], F32))
    found = round_to_nearest(W, grid)
    assert found.values.shape == W.shape
    assert found.codes[0].shape[:2] == (3, -(-13 // quantizer.block_size))
    np.testing.assert_array_equal(found.values[1], 0.0)
    check_codes_match(grid, found)


def test_chunks_of_rows_are_not_kept_beside_the_whole():
    m, n = 2048, 512
    one = np.zeros((m, 1), np.uint8)

    def work(rows):
        return ldlq_module.Rounded((one[rows],), np.ones((rows.stop - rows.start, n), F32))

    tracemalloc.start()
    try:
        found = ldlq_module.over_rows(work, (m, n), 1, 1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.values.shape == (m, n)
    assert found.codes[0].shape == one.shape
    assert peak < 1.5 * found.values.nbytes
