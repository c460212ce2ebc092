"""The public strategies build what they promise."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lrc.testing.strategies import (
    degenerate_moments,
    problems,
    ranks,
    second_moments,
    shapes,
    spectra,
    weights,
)

SIZES = st.integers(1, 16)


@given(data=st.data(), n=SIZES, decades=st.floats(0, 8))
def test_spectra_descend_from_one_within_their_condition(data, n, decades):
    values = data.draw(spectra(n, decades))
    assert values.shape == (n,)
    assert (np.diff(values) <= 0).all()
    assert 10.0**-decades * (1 - 1e-12) <= values[-1] <= values[0] <= 1.0
    deficient = data.draw(spectra(n, decades, deficient=True))
    assert n == 1 or deficient[-1] == 0.0 < deficient[0]


@given(data=st.data(), n=SIZES)
def test_moments_are_symmetric_with_their_condition(data, n):
    H = data.draw(second_moments(n, 4.0))
    np.testing.assert_array_equal(H, H.T)
    assert np.linalg.cond(H) < 1.01e4
    singular = data.draw(second_moments(n, 4.0, deficient=True))
    values = np.linalg.eigvalsh(singular)
    assert n == 1 or abs(values[0]) < 1e-12 * values[-1]


@given(data=st.data(), n=SIZES)
def test_degenerate_moments_are_finite_and_nearly_semidefinite(data, n):
    H = data.draw(degenerate_moments(n))
    np.testing.assert_array_equal(H, H.T)
    values = np.linalg.eigvalsh(H)
    assert np.isfinite(values).all()
    assert values[0] >= -1e-8 * max(values[-1], 0.0)


@given(data=st.data())
def test_weights_shapes_and_ranks(data):
    m, n = data.draw(shapes(9, 7))
    assert 1 <= m <= 9
    assert 1 <= n <= 7
    W = data.draw(weights(m, n))
    assert W.shape == (m, n)
    assert W.dtype == np.float32
    assert np.isfinite(W).all()
    assert 1 <= data.draw(ranks(m, n)) <= min(m, n)


@given(problem=problems(5, 6, degenerate=True))
def test_problems_fit_together(problem):
    assert problem.W.shape[1] == len(problem.H)
