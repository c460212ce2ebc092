"""An expert that saw few tokens: what it loses on tokens that it did not see."""

from __future__ import annotations

import numpy as np

from lrc.linalg.lowrank import top_output_eigenvectors
from lrc.linalg.norms import relative_proxy_error
from lrc.linalg.second_moment import SecondMoment
from lrc.linalg.token_rows import chunk_moment
from lrc.spec import CalibrationSpec

N, RANK, SEEDS = 64, 16, range(6)


def covariances(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Square roots of that of all tokens, and of an expert's: a part of it is its own."""
    rng = np.random.default_rng(seed)

    def root() -> np.ndarray:
        mixing = rng.standard_normal((N, N)) * np.exp(0.7 * rng.standard_normal(N))
        return mixing * np.arange(1, N + 1) ** -0.5

    shared, own = root(), root()
    return shared, np.concatenate([np.sqrt(0.7) * shared, np.sqrt(0.3) * own], axis=1)


def moment(root: np.ndarray, tokens: int, seed: int) -> SecondMoment:
    rng = np.random.default_rng(seed)
    z = (rng.standard_normal((tokens, root.shape[1])) @ root.T).astype(np.float32)
    made = SecondMoment(N)
    made.add(chunk_moment(z))
    return made


def held_out(tokens: int, *, shrunk: bool) -> float:
    """Relative error on the expert's own distribution of the best matrix of low rank, on average.

    Best by the moment of so many tokens, with the share of its diagonal that any moment gets.
    """
    found = []
    for seed in SEEDS:
        shared, own = covariances(seed)
        seen = moment(own, tokens, seed + 100)
        if shrunk:
            seen.shrink_to(moment(shared, 4096, seed + 200).sums())
        share = CalibrationSpec().shrinkage_for(seen.effective_rows)
        H = seen.matrix()
        H += share * np.diag(np.diag(H))
        W = np.random.default_rng(seed + 300).standard_normal((48, N)).astype(np.float32)
        _, U = top_output_eigenvectors(W, H, RANK, seed)
        E = W - U @ (U.T @ W)
        found.append(relative_proxy_error(E, W, own @ own.T))
    return float(np.mean(found))


def test_moments_of_others_help_where_few_tokens_are_an_experts_own() -> None:
    """The fewer, the more, also where there are none; no harm with many."""
    gains = [held_out(n, shrunk=False) / held_out(n, shrunk=True) for n in (8, 32, 128, 1024)]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > 1.1
    assert gains[1] > 1.03
    assert gains[3] > 0.999
    assert held_out(0, shrunk=True) < held_out(32, shrunk=False) * 1.1
