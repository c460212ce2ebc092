"""Two-sided LDLQ: what rounding under a metric of outputs is, beside that of inputs."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from budget import few
from hypothesis import given
from hypothesis import strategies as st
from toy_quantizers import Integers, RandomRounder

from lrc.linalg.factor import block_ldl, factor, feedback_matrix
from lrc.quant import quantizer as encoder
from lrc.quant.ldlq import Grid, Rounded, ldlq, polish
from lrc.quant.two_sided import (
    OutputMetric,
    output_metric,
    polish_by_rows,
    round_by_rows,
    two_sided_loss,
)
from lrc.testing.laws import check_codes_match, dense_diagonal, quadratic_loss
from lrc.testing.strategies import seeds
from lrc.testing.tolerance import assert_within, factor_bound

F32 = np.float32
ONE = np.ones((1, 1), F32)


def moment(n: int, seed: int, spread: float = 3.0) -> np.ndarray:
    """A well-conditioned second moment with correlated entries, of mean diagonal 1."""
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.standard_normal((n, n)))
    H = (basis * np.exp(-spread * np.arange(n) / n)) @ basis.T
    H *= n / np.trace(H)
    return 0.5 * (H + H.T)


def metric_of(A: np.ndarray, rows: int) -> OutputMetric:
    """Of any number of rows together."""
    return OutputMetric(A.astype(F32), feedback_matrix(factor(A).cholesky, rows), rows)


def rounded(W: np.ndarray, metric: OutputMetric, H: np.ndarray, grid: Grid) -> Rounded:
    feedback = feedback_matrix(factor(H).cholesky, grid.quantizer.block_size)
    return round_by_rows(W, metric, grid, lambda _, weights, own: ldlq(weights, feedback, own))


def polished(W, start, metric, H, grid, sweeps=1, dither=0.0):
    def rows_polished(rows, weights, before, own):
        return polish(weights, before, H, own, sweeps, dither=dither, seed=rows.start)

    return polish_by_rows(W, start, metric, H, grid, rows_polished)


def grid_for(key, W):
    quantizer = encoder(*key, len(W))
    return Grid(
        quantizer, np.full((1, 1), np.sqrt(np.square(W).mean()) / quantizer.input_scale, F32)
    )


@given(m=st.integers(1, 70), n=st.integers(1, 20), seed=seeds())
def test_without_a_metric_of_outputs_it_is_plain_ldlq(m: int, n: int, seed: int) -> None:
    """Sums of small binary fractions are exact, so the codes are."""
    rng = np.random.default_rng(seed)
    W = (rng.integers(-48, 49, (m, n)) / 16).astype(F32)
    feedback = np.tril(rng.choice([-0.125, 0.0, 0.125], (n, n)), -1).astype(F32)
    grid = Grid(Integers(), ONE)
    plain = ldlq(W, feedback, grid)
    found = round_by_rows(
        W, output_metric(3.0 * np.eye(m), 1), grid, lambda _, w, own: ldlq(w, feedback, own)
    )
    np.testing.assert_array_equal(found.codes[0], plain.codes[0])
    np.testing.assert_array_equal(found.values, plain.values)


@given(
    m=st.integers(1, 12), n=st.integers(1, 12), rows=st.integers(1, 5), seed=seeds(),
    toy=st.sampled_from([Integers, RandomRounder]),
)  # fmt: skip
def test_its_loss_is_that_of_how_far_each_entry_was_rounded(m, n, rows, seed, toy) -> None:
    """The law, for any rounding; and integers are never off by more than half of one."""
    rng = np.random.default_rng(seed)
    W = (4 * rng.standard_normal((m, n))).astype(F32)
    A, H = moment(m, seed), moment(n, seed + 1)
    metric, grid = metric_of(A, rows), Grid(toy(), ONE)
    found = rounded(W, metric, H, grid)
    E = W.astype(np.float64) - found.values
    left, right = block_ldl(factor(A).cholesky, rows), block_ldl(factor(H).cholesky, 1)
    eta = left.unit.T @ E @ right.unit
    through = np.trace(dense_diagonal(left, m) @ eta @ dense_diagonal(right, n) @ eta.T)
    loss = np.trace(A @ E @ H @ E.T)
    size = float(np.linalg.norm(E) ** 2 * np.linalg.norm(A, 2) * np.linalg.norm(H, 2))
    assert_within(abs(through - loss), factor_bound(m + n, np.float64, solve=True) * size, "law")
    assert loss == pytest.approx(two_sided_loss(E, A, H), rel=1e-9, abs=1e-12 * size)
    reach = np.abs(left.unit).max() * np.abs(right.unit).max() * (np.abs(W).max() + m * n)
    if toy is Integers:
        assert np.abs(eta).max() <= 0.5 + factor_bound(m + n, F32) * reach


@pytest.mark.parametrize("key", [("uniform", 2), ("e8p", 2), ("shuffle10", 2)], ids=str)
def test_it_loses_less_than_one_side_alone(key) -> None:
    """On average, and by about what the metric's block LDL says where codes are fine enough."""
    m, n, ratios = 96, 48, []
    for seed in range(4):
        W = np.random.default_rng(seed).standard_normal((m, n)).astype(F32)
        A, H = moment(m, seed, 8.0), moment(n, seed + 9).astype(F32)
        grid = grid_for(key, W)
        metric = output_metric(A, grid.quantizer.block_rows)
        one = rounded(W, output_metric(np.eye(m), grid.quantizer.block_rows), H, grid)
        two = rounded(W, metric, H, grid)
        check_codes_match(grid, two)
        three = polished(W, two, metric, H, grid)
        all_three = (one, two, three)
        losses = [two_sided_loss(W - found.values, metric.moment, H) for found in all_three]
        ratios.append(np.divide(losses[1:], losses[:-1]))
    rounding, polishing = np.mean(ratios, axis=0)
    assert rounding < 0.8
    assert polishing < 1


@pytest.mark.parametrize("key", [("uniform", 3), ("e8p", 2), ("shuffle10", 2)], ids=str)
@pytest.mark.parametrize("dither", [0.0, 0.2])
@few(2)
@given(seed=seeds())
def test_polish_never_raises_the_loss(key, dither: float, seed: int) -> None:
    m, n = 64, 32
    W = np.random.default_rng(seed).standard_normal((m, n)).astype(F32)
    H, grid = moment(n, seed).astype(F32), grid_for(key, W)
    metric = output_metric(moment(m, seed + 1, 8.0), grid.quantizer.block_rows)
    start = rounded(W, metric, H, grid)
    losses = [two_sided_loss(W - start.values, metric.moment, H)]
    for _ in range(3):
        start = polished(W, start, metric, H, grid, dither=dither)
        check_codes_match(grid, start)
        losses.append(two_sided_loss(W - start.values, metric.moment, H))
    slack = 1e-5 * losses[0]
    assert all(after <= before + slack for before, after in itertools.pairwise(losses))


def test_polish_finds_the_least_of_one_block() -> None:
    """Where rounding is all but exact, a block ends where its gradient is zero."""
    m, n = 48, 10
    rng = np.random.default_rng(3)
    W, H = rng.standard_normal((m, n)).astype(F32), moment(n, 1).astype(F32)
    metric, grid = output_metric(moment(m, 2), 1), Grid(Integers(), np.full((1, 1), 1e-3, F32))
    first = metric.blocks[-1]
    codes = np.rint(W / F32(1e-3)).astype(np.int32)
    codes[first.stop :] += rng.integers(-400, 400, codes[first.stop :].shape, dtype=np.int32)
    start = Rounded((codes,), codes * F32(1e-3))
    # The last blocks are polished away: then all errors are those of rounding alone.
    found = polished(W, start, metric, H, grid, sweeps=8)
    before, after = (two_sided_loss(W - x.values, metric.moment, H) for x in (start, found))
    assert after < 1e-4 * before


def test_blocks_are_whole_tiles() -> None:
    for rows, wanted in ((1, 32), (16, 32), (64, 64), (256, 256)):
        assert output_metric(np.eye(512), rows).block_rows == wanted
    scaled = output_metric(5.0 * moment(40, 1), 1)
    np.testing.assert_allclose(np.trace(scaled.moment), 40, rtol=1e-6)
    assert dataclasses.replace(scaled, block_rows=40).blocks == [slice(0, 40)]
    assert quadratic_loss(np.eye(40), scaled.moment) == pytest.approx(40, rel=1e-6)
