"""Polishing codes: the loss never rises, and what cannot be improved stays."""

from __future__ import annotations

import numpy as np
import pytest
from budget import few
from codebook_cases import ROWWISE, SCALED
from hypothesis import given
from hypothesis import strategies as st
from toy_quantizers import Integers

import lrc.quant.ldlq as ldlq_module
from lrc.linalg.factor import factor, feedback_matrix
from lrc.quant import quantizer as encoder
from lrc.quant.ldlq import Grid, block_inverses, ldlq, polish, round_to_nearest
from lrc.testing.laws import check_codes_match, loss_rounding, quadratic_loss
from lrc.testing.strategies import degenerate_moments, problems, second_moments, seeds
from lrc.testing.tolerance import assert_within

F32 = np.float32
every = pytest.mark.parametrize("key", ROWWISE, ids=str)
some = pytest.mark.parametrize(
    "key", [("e8p", 2), ("e8p-rvq4", 4), ("uniform", 4), ("lloyd-max", 2)], ids=str
)


def start(key, W):
    quantizer = encoder(*key)
    size = np.sqrt(np.square(W, dtype=np.float64).mean()) / quantizer.input_scale
    return Grid(quantizer, np.full((1, 1), size or 1.0, F32))


def same(a, b):
    np.testing.assert_array_equal(a.values, b.values)
    for mine, theirs in zip(a.codes, b.codes, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@every
@few(4)
@given(data=st.data())
def test_no_sweep_raises_the_loss_and_the_end_is_stable(key, data):
    degenerate = data.draw(st.booleans())
    W, H = data.draw(problems(max_m=4, max_n=20, degenerate=degenerate))
    H = (H / max(np.abs(H).max(), 1e-30)).astype(F32)
    grid = start(key, W)
    rounded = round_to_nearest(W, grid)
    before = W.copy(), H.copy(), rounded.values.copy(), [c.copy() for c in rounded.codes]
    previous = quadratic_loss(W - rounded.values, H)
    slack = loss_rounding(W - rounded.values, W, H)
    now = rounded
    for sweep in range(3):
        now = polish(W, now, H, grid, 1, dither=0.2 * (sweep == 1), seed=sweep + 5)
        loss = quadratic_loss(W - now.values, H)
        assert_within(loss, previous + slack, "loss after a sweep")
        check_codes_match(grid, now)
        previous = loss
    same(polish(W, rounded, H, grid, 0), rounded)
    for given_array, kept in zip((W, H, rounded.values, *rounded.codes),
                                 (*before[:3], *before[3]), strict=True):  # fmt: skip
        np.testing.assert_array_equal(given_array, kept)


@some
@few(4)
@given(data=st.data())
def test_a_fixed_point_is_stable(key, data):
    W, H = data.draw(problems(max_m=4, max_n=20, max_log10_cond=2.0))
    H = (H / np.abs(H).max()).astype(F32)
    grid = start(key, W)
    settled = polish(W, round_to_nearest(W, grid), H, grid, 60)
    same(polish(W, settled, H, grid, 5), settled)


@few(2)
@given(data=st.data())
def test_scalar_fixed_points_have_no_better_single_move(data):
    """For one column at a time the search is exhaustive: no other level lowers the loss."""
    W, H = data.draw(problems(max_m=3, max_n=8, max_log10_cond=2.0))
    H = (H / np.abs(H).max()).astype(F32)
    grid = start(("uniform", 2), W)
    settled = polish(W, round_to_nearest(W, grid), H, grid, 60)
    E = W.astype(np.float64) - settled.values
    levels = grid.quantizer.decode((np.arange(4, dtype=np.uint8)[None],))[0] * grid.scale[0]
    slack = loss_rounding(E, W, H)
    base = np.einsum("ij,jk,ik->i", E, H.astype(np.float64), E)
    for column in range(W.shape[1]):
        for level in levels:
            moved = E.copy()
            moved[:, column] = W[:, column] - level
            loss = np.einsum("ij,jk,ik->i", moved, H.astype(np.float64), moved)
            assert_within(float((base - loss).max()), slack, "gain of a move left undone")


@pytest.mark.parametrize("key", SCALED, ids=str)
def test_polish_improves_nearest_rounding_much_and_feedback_some(key):
    rng = np.random.default_rng(5021)
    V = np.linalg.qr(rng.standard_normal((32, 32)))[0]
    H = (V * np.geomspace(1, 1e-2, 32)) @ V.T
    W = rng.standard_normal((24, 32)).astype(F32)
    grid = start(key, W)
    feedback = feedback_matrix(factor(H).cholesky, grid.quantizer.block_size)
    nearest, fed = round_to_nearest(W, grid), ldlq(W, feedback, grid)

    def loss(r):
        return quadratic_loss(W - r.values, H)

    H32 = H.astype(F32)
    assert loss(polish(W, nearest, H32, grid, 4)) < 0.85 * loss(nearest)
    plain = polish(W, fed, H32, grid, 4)
    assert loss(plain) < loss(fed)
    dithered = polish(W, plain, H32, grid, 4, dither=0.2, seed=9)
    assert loss(dithered) <= loss(plain) * (1 + 1e-6)
    if key == ("e8p", 2):
        assert loss(dithered) < loss(plain), "noise reaches neighbours of the nearest codeword"


@given(seed=seeds())
def test_chunks_and_threads_change_nothing_without_dither(seed):
    rng = np.random.default_rng(seed)
    W = (rng.integers(-48, 49, (7, 12)) / 16).astype(F32)
    H = np.eye(12, dtype=F32) + F32(0.125) * (rng.random((12, 12)) < 0.2)
    H = np.maximum(H, H.T)
    grid = Grid(Integers(), np.ones((1, 1), F32))
    rounded = round_to_nearest(W, grid)
    whole = polish(W, rounded, H, grid, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ldlq_module, "_CHUNK_ROWS", 3)
        for threads in (1, 2):
            same(polish(W, rounded, H, grid, 2, threads=threads), whole)


def test_dither_depends_on_the_seed_and_not_on_threads(monkeypatch):
    monkeypatch.setattr(ldlq_module, "_CHUNK_ROWS", 5)
    rng = np.random.default_rng(5023)
    W = np.tile(rng.standard_normal((5, 24)).astype(F32), (4, 1))[:17]  # chunks are alike
    z = rng.standard_normal((48, 24))
    H = (z.T @ z / 48).astype(F32)
    grid = start(("e8p", 2), W)
    rounded = round_to_nearest(W, grid)

    def run(seed, threads):
        return polish(W, rounded, H, grid, 2, dither=0.3, seed=seed, threads=threads)

    same(run(6, 1), run(6, 2))
    assert (run(6, 1).codes[0] != run(7, 1).codes[0]).any()
    values = run(6, 1).values
    assert (values[:5] != values[5:10]).any(), "chunks draw noise of their own"


@pytest.mark.parametrize("block_size", [1, 2, 8, 16])
@given(data=st.data())
def test_inverses_of_blocks_are_the_pseudo_inverses_to_the_bit(block_size, data):
    n = data.draw(st.integers(1, 40))
    H = data.draw(st.one_of(second_moments(n), degenerate_moments(n))).astype(F32)
    found = block_inverses(H, block_size)
    starts = range(0, n, block_size)
    for a, inverse in zip(starts, found, strict=True):
        one = np.linalg.pinv(H[a : a + block_size, a : a + block_size])
        np.testing.assert_array_equal(inverse, one, strict=True)


def test_inverses_are_found_once_whatever_the_number_of_rows(monkeypatch):
    calls = []
    monkeypatch.setattr(ldlq_module, "_CHUNK_ROWS", 3)
    monkeypatch.setattr(ldlq_module, "block_inverses",
                        lambda *given: calls.append(1) or block_inverses(*given))  # fmt: skip
    W = np.random.default_rng(5027).standard_normal((12, 9)).astype(F32)
    grid = start(("e8p", 2), W)
    polish(W, round_to_nearest(W, grid), np.eye(9, dtype=F32), grid, 2)
    assert len(calls) == 1
