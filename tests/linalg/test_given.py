"""Matrices as callers give them: what is converted, and what is refused and why."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from lrc.errors import NumericalError, SpecError
from lrc.linalg.given import real_matrix, second_moment
from lrc.testing.strategies import degenerate_moments, second_moments

F32 = np.float32


@pytest.mark.parametrize(
    "given_values",
    [[[1, -2], [3, 0]], np.array([[1, -2], [3, 0]], np.int8), np.array([[1, -2], [3, 0.0]], "f2"),
     np.asfortranarray([[1.0, -2.0], [3.0, 0.0]])],
    ids=["list", "int8", "float16", "fortran"],
)  # fmt: skip
def test_real_numbers_of_any_kind_are_converted(given_values):
    found = real_matrix(given_values, "W", np.float32)
    assert found.dtype == F32
    assert found.flags.c_contiguous
    np.testing.assert_array_equal(found, [[1, -2], [3, 0]])


@pytest.mark.parametrize(
    ("given_values", "message"),
    [
        (np.eye(2) * 1j, "W has dtype complex128; expected a matrix of real numbers"),
        (np.eye(2, dtype=bool), "W has dtype bool"),
        ([["a", "b"]], "W has dtype <U1"),
        (scipy.sparse.eye_array(3), "W has dtype object"),
        (None, "W has dtype object"),
        ([[1.0, 2.0], [3.0]], "W is no array"),
        ([1.0, 2.0], r"W has shape \(2,\); expected a matrix"),
        (3.5, r"W has shape \(\)"),
        (np.ones((0, 4)), r"W has shape \(0, 4\)"),
        (np.ones((2, 3, 4)), r"W has shape \(2, 3, 4\)"),
    ],
    ids=str,
)
def test_what_is_no_real_matrix_is_refused(given_values, message):
    with pytest.raises(SpecError, match=message):
        real_matrix(given_values, "W", np.float32)


def test_values_that_are_or_become_infinite_are_refused():
    for bad in (np.nan, np.inf):
        with pytest.raises(NumericalError, match="not finite"):
            real_matrix([[1.0, bad]], "W", np.float32)
    with pytest.raises(NumericalError, match=r"W reaches 1\.0e\+39, beyond float32; scale it"):
        real_matrix([[1.0, -1e39]], "W", np.float32)
    assert real_matrix([[1e39]], "W", np.float64) == 1e39


@given(data=st.data())
def test_any_moment_of_inputs_is_taken_in_either_precision(data):
    n = data.draw(st.integers(1, 20))
    family = data.draw(st.sampled_from([second_moments, degenerate_moments]))
    H = data.draw(family(n))
    before = H.copy()
    for exact in (H, H.astype(F32), np.asarray(H.astype(F32), order="F")):
        found = second_moment(exact, n)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, found.T)
        np.testing.assert_array_equal(found, exact)
        found[0, 0] = 7.0
    np.testing.assert_array_equal(H, before)


@given(data=st.data())
def test_one_negative_eigenvalue_is_refused_from_n_eps_on(data):
    n = data.draw(st.integers(2, 24))
    seed = data.draw(st.integers(2, 2**32 - 1))
    V = np.linalg.qr(np.random.default_rng(seed).standard_normal((n, n)))[0]
    size = float(10.0 ** data.draw(st.integers(-6, 6)))
    limit = n * float(np.finfo(F32).eps)
    for least, taken in ((-0.5 * limit, True), (-2 * limit, False), (-5.0, False)):
        values = np.where(np.arange(n) == 0, least, np.geomspace(1, 1e-3, n))
        values[-1] = 1.0
        H = size * (V * values) @ V.T
        H = 0.5 * (H + H.T)
        if taken:
            second_moment(H, n)
        else:
            with pytest.raises(NumericalError, match=r"has the eigenvalue -.*below 0"):
                second_moment(H, n)


def test_a_large_indefinite_moment_is_refused_and_a_singular_one_taken():
    """Beyond the size up to which the largest eigenvalue is found directly."""
    z = np.random.default_rng(61).standard_normal((40, 300)).astype(F32)
    H = z.T @ z / 40
    second_moment(H, 300)
    H[7, 7] -= F32(1.0)
    with pytest.raises(NumericalError, match="has the eigenvalue -"):
        second_moment(H, 300)


def test_asymmetry_is_averaged_out_up_to_rounding_and_refused_beyond():
    H = np.eye(3)
    H[0, 1] = 2e-7
    np.testing.assert_array_equal(second_moment(H, 3)[[0, 1], [1, 0]], 1e-7)
    H[0, 1] = 1e-6
    with pytest.raises(NumericalError, match=r"differs from its transpose by 1\.0e-06"):
        second_moment(H, 3)


def test_a_moment_of_other_inputs_is_refused():
    with pytest.raises(SpecError, match=r"H has shape \(2, 2\); W with 3 columns needs \(3, 3\)"):
        second_moment(np.eye(2), 3)
    with pytest.raises(NumericalError, match="eigenvalue"):
        second_moment(-np.eye(2), 2)
    np.testing.assert_array_equal(second_moment(np.zeros((2, 2)), 2), 0.0)
