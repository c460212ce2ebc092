"""The proxy loss is the mean squared output error."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc.errors import NumericalError
from lrc.linalg import norms, precision
from lrc.linalg.norms import incoherence, proxy_loss, relative_proxy_error, rms, squared_norm
from lrc.testing.laws import quadratic_loss
from lrc.testing.strategies import problems
from lrc.testing.tolerance import assert_within, factor_bound


@given(data=st.data())
def test_proxy_loss_in_either_precision(data):
    E, H = data.draw(problems())
    size = np.linalg.norm(E.astype(np.float64)) ** 2 * np.linalg.norm(H, 2)
    expected = quadratic_loss(E, H)
    for dtype in (np.float32, np.float64):
        error = abs(proxy_loss(E.astype(dtype), H) - expected)
        assert_within(error, factor_bound(len(H), dtype) * size, f"loss in {np.dtype(dtype)}")


@given(data=st.data())
def test_one_triangle_of_a_wide_moment_is_enough(data):
    E, H = data.draw(problems())
    size = np.linalg.norm(E.astype(np.float64)) ** 2 * np.linalg.norm(H, 2)
    lower = np.tril(H).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(precision, "WIDE", 1)
        patch.setattr(norms, "_CHUNK_COLUMNS", data.draw(st.integers(1, 8)))
        symmetric = lower + np.tril(lower, -1).T
        found = proxy_loss(E, symmetric)
    error = abs(found - quadratic_loss(E, H))
    assert_within(error, factor_bound(len(H), np.float32) * size, "loss")


def test_proxy_loss_is_the_mean_squared_output_error():
    rng = np.random.default_rng(29)
    E, z = rng.standard_normal((5, 7)), rng.standard_normal((200, 7))
    expected = np.square(z @ E.T).sum(axis=1).mean()
    assert proxy_loss(E, z.T @ z / 200) == pytest.approx(expected, rel=1e-12)


def test_relative_error_of_nothing():
    W, H, zero = np.ones((2, 2)), np.eye(2), np.zeros((2, 2))
    assert relative_proxy_error(W, W, H) == 1.0
    assert relative_proxy_error(3 * W, W, H) == pytest.approx(3.0)
    assert relative_proxy_error(zero, zero, H) == 0.0
    assert relative_proxy_error(W, zero, H) == np.inf


def test_rms_and_incoherence():
    W = np.array([[3.0, -4.0]], np.float32)
    assert rms(W) == pytest.approx(np.sqrt(12.5))
    assert incoherence(W) == pytest.approx(4 / np.sqrt(12.5))
    assert incoherence(np.ones((3, 4))) == 1.0
    assert incoherence(np.zeros((3, 4))) == 0.0
    assert rms(np.full((1000, 1), 1e25, np.float32)) == pytest.approx(1e25, rel=1e-6)


def test_a_negative_error_is_rounding_or_an_indefinite_moment():
    E = np.ones((2, 3), np.float32)
    almost = np.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, -1e-7]])
    assert proxy_loss(E.astype(np.float64), almost) < 0
    assert squared_norm(E, almost.astype(np.float32)) == 0.0
    for H in (np.diag([1.0, -2.5, 1.0]), -np.eye(3)):
        with pytest.raises(NumericalError, match="not positive semidefinite"):
            squared_norm(E, H)
        with pytest.raises(NumericalError, match="not positive semidefinite"):
            relative_proxy_error(E, E, H)
