"""Compiled loops over columns: what the plain loop does, for every trellis code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from lrc.linalg.factor import factor, feedback_matrix
from lrc.linalg.norms import proxy_loss
from lrc.quant import get_quantizer
from lrc.quant.ldlq import Grid, Rounded, ldlq, polish
from lrc.quant.scales import matrix_scale
from lrc.spec import QuantSpec

#: Rows of tiles of one column, and of four.
HEIGHTS = (256, 192)
every_case = pytest.mark.parametrize(
    ("codebook", "m"), [(name, m) for name in ("shuffle10", "trellis8") for m in HEIGHTS]
)


@dataclass(frozen=True)
class Plain:
    """A quantizer without its compiled loops."""

    quantizer: Any

    columns = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.quantizer, name)


def case(codebook: str, m: int, n: int = 150) -> tuple[Any, ...]:
    """W, H, the feedback and a grid; n ends within a panel and a tile."""
    rng = np.random.default_rng(8101)
    W = rng.standard_normal((m, n)).astype(np.float32)
    X = rng.standard_normal((3 * n, n)) @ (np.eye(n) + rng.standard_normal((n, n)) / 9)
    H = X.T @ X / len(X)
    quantizer = get_quantizer(QuantSpec(codebook, 2), m)
    feedback = feedback_matrix(factor(H).cholesky, quantizer.block_size)
    scale = matrix_scale(W, quantizer) * np.linspace(0.9, 1.1, m, dtype=np.float32)[:, None]
    return W, H.astype(np.float32), feedback, Grid(quantizer, scale)


def plain(grid: Grid) -> Grid:
    return Grid(Plain(grid.quantizer), grid.scale)


def loss(W: Any, rounded: Rounded, H: Any) -> float:
    return proxy_loss((W - rounded.values).astype(np.float64), H.astype(np.float64))


@every_case
def test_ldlq_rounds_like_the_plain_loop(codebook: str, m: int) -> None:
    """Exactly up to the order of sums, after which paths may part."""
    W, H, feedback, grid = case(codebook, m)
    fast, slow = ldlq(W, feedback, grid), ldlq(W, feedback, plain(grid))
    last = slice(-1, None)
    np.testing.assert_array_equal(fast.codes[0][:, last], slow.codes[0][:, last])
    assert (fast.codes[0] == slow.codes[0]).mean() > 0.3
    np.testing.assert_array_equal(
        fast.values, (grid.quantizer.decode(fast.codes)[:, : W.shape[1]] * grid.scale)
    )
    assert loss(W, fast, H) == pytest.approx(loss(W, slow, H), rel=0.02)


@every_case
def test_polish_gains_what_the_plain_loop_gains(codebook: str, m: int) -> None:
    W, H, feedback, grid = case(codebook, m)
    begin = ldlq(W, feedback, grid)
    fast, slow = (polish(W, begin, H, g, 2) for g in (grid, plain(grid)))
    before, after, other = (loss(W, found, H) for found in (begin, fast, slow))
    assert after < before
    assert before - after > 0.7 * (before - other)
    np.testing.assert_array_equal(
        fast.values, (grid.quantizer.decode(fast.codes)[:, : W.shape[1]] * grid.scale)
    )
    planes = grid.quantizer.pack(fast.codes)
    again = grid.quantizer.unpack(planes, W.shape[1])
    np.testing.assert_array_equal(again[0].reshape(m, -1), fast.codes[0].reshape(m, -1))


def test_threads_change_nothing() -> None:
    W, H, feedback, grid = case("shuffle10", 384)
    begin = ldlq(W, feedback, grid)
    done = polish(W, begin, H, grid, 1)
    for found, wanted in (
        (ldlq(W, feedback, grid, threads=2), begin),
        (polish(W, begin, H, grid, 1, threads=2), done),
    ):
        np.testing.assert_array_equal(found.codes[0], wanted.codes[0])
        np.testing.assert_array_equal(found.values, wanted.values)
