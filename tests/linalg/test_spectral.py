"""The proven bound of ||E||_2 holds, and is tight."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc.linalg import spectral
from lrc.linalg.diagonal_plus_low_rank import DiagonalPlusLowRank
from lrc.linalg.spectral import gram_pieces, largest_eigenvalue, spectral_bound


def bound(E: np.ndarray) -> float:
    order = min(E.shape)
    return spectral_bound(gram_pieces(E, order), order, max(E.shape))


@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    exponent=st.integers(-30, 30),
    rank=st.integers(1, 90),
)
def test_no_error_is_larger(seed: int, shape: tuple[int, int], exponent: int, rank: int) -> None:
    rng = np.random.default_rng(seed)
    m, n = shape
    E = rng.standard_normal((m, rank)) @ rng.standard_normal((rank, n)) * 2.0**exponent
    exact = np.linalg.svd(E, compute_uv=False)[0]
    found = bound(E)
    assert found >= exact * (1 - 1e-14)
    assert found <= exact * (1 + 1e-2)


def test_known_singular_values_are_bounded_from_above_without_slack_for_them() -> None:
    """Of diagonal matrices ||E||_2 is known exactly, and equal to ||E||_F in the last."""
    for diagonal in ([3.0, 3.0, 3.0], [1.0, 1e-8], [1e-100], [7.0, 0.0, 0.0]):
        E = np.diag(diagonal)
        assert max(diagonal) <= bound(E) <= 1.002 * max(diagonal)


def test_a_zero_error_is_bounded_by_zero() -> None:
    assert bound(np.zeros((5, 3))) == 0.0


def test_lanczos_finds_the_largest_eigenvalue_of_large_moments() -> None:
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((40, 200)).astype(np.float32)
    H = DiagonalPlusLowRank(rng.uniform(0, 2, 200), rows, np.ones(40, np.float32))
    dense = np.diag(H.diagonal) + rows.T.astype(np.float64) @ rows
    exact = np.linalg.eigvalsh(dense)[-1]
    assert largest_eigenvalue(H) == pytest.approx(exact, rel=1e-3)
    assert largest_eigenvalue(dense) == pytest.approx(exact, rel=1e-3)


@pytest.mark.parametrize("wrong", [0.0, 0.3, 0.999, 5.0])
def test_the_bound_does_not_rest_on_the_estimate(
    monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    monkeypatch.setattr(spectral, "largest_eigenvalue", lambda G: wrong * np.linalg.norm(G, 2))
    E = np.random.default_rng(8).standard_normal((30, 40))
    assert np.linalg.norm(E, 2) <= bound(E) <= np.linalg.norm(E) * (1 + 1e-12)
