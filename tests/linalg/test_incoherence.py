"""The rotation keeps what matters and spreads what sticks out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc.linalg.incoherence import (
    pack_signs,
    random_signs,
    rotate_columns,
    rotate_moment,
    rotate_weight,
)
from lrc.linalg.norms import incoherence
from lrc.parts.signs import unpack_signs
from lrc.testing.laws import quadratic_loss
from lrc.testing.strategies import problems, seeds
from lrc.testing.tolerance import assert_within, factor_bound, relative_difference
from lrc_kernels.rotate import hadamard_transform


@given(data=st.data())
def test_rotation_keeps_norm_and_loss(data):
    W, H = data.draw(problems(max_m=40, max_n=40))
    m, n = W.shape
    signs_in, signs_out = (random_signs(k, data.draw(seeds())) for k in (n, m))
    before = W.copy(), H.copy()
    rotated, moment = rotate_weight(W, signs_in, signs_out), rotate_moment(H, signs_in)
    assert rotated.dtype == np.float32
    assert rotated.flags.c_contiguous
    np.testing.assert_array_equal(moment, moment.T)
    norms = [np.linalg.norm(x.astype(np.float64)) for x in (W, rotated)]
    bound = factor_bound(m + n, np.float32)
    assert_within(abs(norms[1] - norms[0]), bound * norms[0], "norm")
    size = norms[0] ** 2 * np.linalg.norm(H, 2)
    change = abs(quadratic_loss(rotated, moment) - quadratic_loss(W, H))
    assert_within(change, bound * size, "tr(W H W^T)")
    np.testing.assert_array_equal(W, before[0])
    np.testing.assert_array_equal(H, before[1])


@given(data=st.data())
def test_rotation_is_undone_by_its_transpose(data):
    W, _ = data.draw(problems(max_m=6, max_n=60))
    signs = random_signs(W.shape[1], data.draw(seeds()))
    back = hadamard_transform(rotate_columns(W, signs), transpose=True) * signs
    assert_within(relative_difference(back, W), factor_bound(W.shape[1], np.float32))


@given(n=st.integers(1, 70), seed=seeds())
def test_signs_survive_packing(n, seed):
    signs = random_signs(n, seed)
    assert set(np.unique(signs)) <= {-1.0, 1.0}
    np.testing.assert_array_equal(unpack_signs(pack_signs(signs), n), signs)
    np.testing.assert_array_equal(signs, random_signs(n, seed))


def test_signs_differ_between_seeds_and_are_balanced():
    a, b = random_signs(4096, 11), random_signs(4096, 12)
    assert abs((a * b).mean()) < 5 / 64
    assert abs(a.mean()) < 5 / 64


def test_without_signs_nothing_is_turned():
    W, H = np.ones((2, 3), np.float32), np.eye(3)
    np.testing.assert_array_equal(rotate_weight(W, None, None), W)
    assert rotate_moment(H, None) is H


@pytest.mark.parametrize(("m", "n"), [(32, 64), (48, 88), (12, 576)])
def test_a_single_spike_is_spread_over_every_entry(m, n):
    """A one-hot matrix becomes perfectly flat when both sides rotate whole."""
    W = np.zeros((m, n), np.float32)
    W[m // 3, n // 5] = 7.0
    assert incoherence(W) == pytest.approx(np.sqrt(m * n))
    rotated = rotate_weight(W, random_signs(n, 19), random_signs(m, 23))
    assert incoherence(rotated) == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("seed", range(301, 309))
def test_outliers_become_as_small_as_a_gaussians(seed):
    """max|W_r| sqrt(m n) / ||W|| <= sqrt(2 log(2 m n / delta)), delta = 1e-4."""
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((40, 96)).astype(np.float32)
    W[:, 5] *= 50.0
    W[7] *= 20.0
    rotated = rotate_weight(W, random_signs(96, seed), random_signs(40, seed + 50))
    assert incoherence(rotated) < np.sqrt(2 * np.log(2 * W.size / 1e-4))
    assert incoherence(W) > 5 * np.sqrt(2 * np.log(2 * W.size / 1e-4))
