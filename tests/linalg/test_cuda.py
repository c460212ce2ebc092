"""Products and factors on a device equal those of the CPU, but for rounding.

Without a device NumPy stands for CuPy: then it is the algebra that is tested, not the device.
"""

from __future__ import annotations

import numpy as np
import pytest
from numpy_as_cupy import fake_cupy, stand_in

from lrc.errors import NumericalError
from lrc.linalg import cuda
from lrc.linalg.factor import factor, schur_complement
from lrc.linalg.lowrank import rank_constrained_regression, top_eigenvectors
from lrc.linalg.norms import proxy_loss, times_metric
from lrc.linalg.second_moment import SecondMoment
from lrc.linalg.token_rows import token_rows
from lrc.solvers.site import site_metric
from lrc.testing.tolerance import sum_bound
from lrc_kernels.gpu import device

N = 300


@pytest.fixture(params=["numpy", "device"])
def place(request, monkeypatch):
    if request.param == "device":
        try:
            device.cupy()
        except RuntimeError as error:
            pytest.skip(str(error))
    else:
        stand_in(monkeypatch, fake_cupy())
    yield
    device.cupy.cache_clear()


@pytest.fixture
def H():
    X = np.random.default_rng(7601).standard_normal((2 * N, N)) * np.linspace(0.2, 3, N)
    return X.T @ X / len(X)


def matrix(m=280):
    return np.random.default_rng(7603).standard_normal((m, N), dtype=np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_with_a_moment(place, H, dtype):
    E, metric = matrix().astype(dtype), H.astype(np.float32)
    bound = 2 * sum_bound(N, dtype) * (np.abs(E) @ np.abs(metric))
    found = times_metric(E, metric, device="cuda")
    assert found.dtype == dtype
    assert (np.abs(found - times_metric(E, metric)) <= bound).all()
    loss = proxy_loss(E, metric, device="cuda")
    assert abs(loss - proxy_loss(E, metric)) <= 2 * (bound * np.abs(E)).sum()


def test_factors(place, H):
    found, expected = factor(H, "cuda"), factor(H)
    np.testing.assert_allclose(found.cholesky, expected.cholesky, atol=1e-10)
    assert found.retries == 0


def test_a_moment_that_has_no_factor_is_damped_as_on_the_cpu(place):
    X = np.random.default_rng(7605).standard_normal((20, N))
    singular = X.T @ X - 1e-7 * np.eye(N)
    found, expected = factor(singular, "cuda"), factor(singular)
    assert found.retries == expected.retries > 0
    np.testing.assert_array_equal(found.shift, expected.shift)
    with pytest.raises(NumericalError, match="not positive definite"):
        factor(-np.eye(3), "cuda")


def test_leading_eigenvectors(place, H):
    for S in (H, H.astype(np.float32)):
        values, vectors = top_eigenvectors(S, 5, 3, "cuda")
        expected, others = top_eigenvectors(S, 5, 3)
        np.testing.assert_allclose(values, expected, rtol=1e-9)
        np.testing.assert_allclose(vectors, others, atol=1e-6)


def test_regression_of_low_rank(place, H):
    A = matrix()
    found = rank_constrained_regression(A, H.astype(np.float32), 6, device="cuda")
    expected = rank_constrained_regression(A, H.astype(np.float32), 6)
    np.testing.assert_allclose(found.energies, expected.energies, rtol=1e-4)
    np.testing.assert_allclose(found.L @ found.R, expected.L @ expected.R, atol=2e-3)


def test_a_downdated_metric(place, H):
    options = {"rotation": "hadamard", "damping": 0.01, "block_size": 1, "seed": 5}
    there, here = site_metric(H.copy(), device="cuda", **options), site_metric(H.copy(), **options)
    np.testing.assert_allclose(there.feedback, here.feedback, atol=1e-6)
    assert there.rounding_loss == pytest.approx(here.rounding_loss, rel=1e-9)
    R = np.random.default_rng(7607).standard_normal((4, N))
    lowered = there.downdated(R)
    assert lowered.dtype == np.float32
    scale = np.abs(here.H).max()
    np.testing.assert_allclose(lowered, here.downdated(R), atol=1e-6 * scale)
    assert there.downdated_loss(R) == pytest.approx(here.downdated_loss(R), rel=1e-6)
    np.testing.assert_allclose(
        there.downdated_feedback(R, 1), here.downdated_feedback(R, 1), atol=1e-4
    )
    exact = schur_complement(here.H.astype(np.float64), R)
    np.testing.assert_allclose(lowered, exact, atol=1e-6 * scale)
    assert cuda.downdated(here.H, np.zeros((1, N))).tobytes() == here.H.tobytes()


def test_moments_of_chunks(place):
    rng = np.random.default_rng(7609)
    d = 7
    here, parts = SecondMoment(N, cross=True, residual_gap=d), []
    for tokens in (50, 1, 80):
        z, x = (rng.standard_normal((tokens, N), dtype=np.float32) for _ in range(2))
        gap = rng.standard_normal((tokens, d), dtype=np.float32)
        z[tokens // 2, 3] = np.nan if tokens > 1 else 0.0
        weights = rng.random(tokens, dtype=np.float32)
        parts.append(token_rows(z, x, gap, weights))
        here.add(parts[-1].moments())
    there = SecondMoment(N, cross=True, residual_gap=d)
    found = cuda.moments(iter(parts))
    assert found is not None
    there.add(found)
    assert (there.rows, there.dropped) == (here.rows, here.dropped) == (129, 2)
    assert there.effective_rows == here.effective_rows
    for name in ("matrix", "cross", "residual_gap"):
        np.testing.assert_allclose(getattr(there, name)(), getattr(here, name)(), atol=1e-6)
    assert cuda.moments(iter(())) is None
