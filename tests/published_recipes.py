"""Methods as their papers write them down, on one small matrix: slow, direct, from rows of inputs.

Nothing here calls a solver of the library but for Q, which is asked for as :func:`codes` of a
matrix: what a paper does with its codes does not depend on how they are found.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.solvers.api import decompose
from lrc.spec import DecomposeSpec

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class Layer:
    """A weight W (m, n), rows X (T, n) of its inputs and the gradients G (T, m) at its outputs."""

    W: F64
    X: F64
    G: F64
    rank: int
    spec: DecomposeSpec

    @property
    def H(self) -> F64:
        """E[x x^T]."""
        return self.X.T @ self.X / len(self.X)

    @property
    def A(self) -> F64:
        """E[g g^T] of the gradients at the outputs."""
        return self.G.T @ self.G / len(self.G)

    @property
    def fisher(self) -> F64:
        """E[(g x^T)^2] of each weight, (m, n)."""
        return (self.G**2).T @ self.X**2 / len(self.X)

    def codes(self, M: F64) -> F64:
        """Q of a matrix, as the recipe codes it."""
        recipe = "round-to-nearest" if self.spec.rounding == "nearest" else "ldlq"
        spec = dataclasses.replace(self.spec, recipe=recipe, statistic="moment")
        return decompose(M, self.H, spec, threads=1).to_dense().astype(np.float64)


def layer(seed: int, spec: DecomposeSpec, rank: int = 3, m: int = 24, n: int = 32) -> Layer:
    """Correlated inputs of several sizes, and a weight with a decaying spectrum."""
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((m, n)) @ np.diag(np.geomspace(3, 0.3, n)) / np.sqrt(n)
    W += rng.standard_normal((m, 4)) @ rng.standard_normal((4, n)) / 4
    mixing = rng.standard_normal((n, n)) * np.geomspace(4, 0.2, n)
    X = rng.standard_normal((6 * n, n)) @ mixing
    G = rng.standard_normal((6 * n, m)) * np.geomspace(2, 0.3, m)
    return Layer(W.astype(np.float32).astype(np.float64), X, G, rank, spec)


def cut(A: F64, rank: int) -> F64:
    """The best approximation of a rank: Eckart and Young."""
    U, s, Vt = np.linalg.svd(A, full_matrices=False)
    return (U[:, :rank] * s[:rank]) @ Vt[:rank]


def scaled(A: F64, columns: F64, rank: int, rows: F64 | float = 1.0) -> F64:
    """D_r^-1 svd_r(D_r A D_c) D_c^-1."""
    left = np.broadcast_to(np.asarray(rows, np.float64), len(A))[:, None]
    return cut(left * A * columns, rank) / columns / left


# L R alone


def svd(of: Layer) -> F64:
    return cut(of.W, of.rank)


def asvd(of: Layer) -> F64:
    """Columns scaled by (mean |x|)^(1/2)."""
    return scaled(of.W, np.abs(of.X).mean(0) ** 0.5, of.rank)


def fwsvd(of: Layer) -> F64:
    """Columns (rows of W^T) scaled by the root of the summed Fisher information."""
    return scaled(of.W, np.sqrt(of.fisher.sum(0)), of.rank)


def gfwsvd(of: Layer) -> F64:
    """Kronecker factors A and H of the Fisher information."""
    left, right = np.linalg.cholesky(of.A), np.linalg.cholesky(of.H)
    inner = cut(left.T @ of.W @ right, of.rank)
    return np.linalg.solve(left.T, inner) @ np.linalg.inv(right)


def cholesky_whitened(of: Layer, A: F64 | None = None) -> F64:
    """SVD-LLM: S of S S^T = X^T X by Cholesky, svd(W S), back by S^-1."""
    S = np.linalg.cholesky(of.H)
    return cut((of.W if A is None else A) @ S, of.rank) @ np.linalg.inv(S)


def svd_llm_2(of: Layer) -> F64:
    """SVD-LLM V2: H = U s U^T by SVD, svd(W U s^(1/2)), back by s^(-1/2) U^T."""
    U, s, _ = np.linalg.svd(of.H)
    return cut(of.W @ U * np.sqrt(s), of.rank) / np.sqrt(s) @ U.T


def drone(of: Layer) -> F64:
    """DRONE: from the SVDs of W and X themselves."""
    Uw, sw, Vw = np.linalg.svd(of.W, full_matrices=False)
    Ux, sx, _ = np.linalg.svd(of.X.T, full_matrices=False)
    return Uw @ cut((sw[:, None] * Vw) @ Ux * sx, of.rank) / sx @ Ux.T


def output_pca(of: Layer) -> F64:
    """ROM, Swift-SVD, Dobi-SVD: V V^T W of the leading right singular vectors V of Y = X W^T."""
    V = np.linalg.svd(of.X @ of.W.T, full_matrices=False)[2][: of.rank].T
    return V @ V.T @ of.W


# L R of the error of Q


def after(of: Layer, approximated: Callable[[F64], F64]) -> F64:
    """Q once, then L R of what it lost."""
    Q = of.codes(of.W)
    return Q + approximated(of.W - Q)


def lorc(of: Layer) -> F64:
    return after(of, lambda E: cut(E, of.rank))


def l2qer(of: Layer) -> F64:
    """Columns scaled by mean |x|."""
    return after(of, lambda E: scaled(E, np.abs(of.X).mean(0), of.rank))


def by_rms(of: Layer) -> F64:
    """QERA-approx, SLiM: columns scaled by the root mean square of each input."""
    return after(of, lambda E: scaled(E, np.sqrt((of.X**2).mean(0)), of.rank))


def qera(of: Layer) -> F64:
    """By the symmetric root R of H: svd(E R) R^-1."""
    s, V = np.linalg.eigh(of.H)
    root = V * np.sqrt(s) @ V.T
    return after(of, lambda E: cut(E @ root, of.rank) @ np.linalg.inv(root))


def eora(of: Layer) -> F64:
    """In the eigenspace of H: E U s^(1/2)."""
    s, U = np.linalg.eigh(of.H)
    return after(of, lambda E: cut(E @ U * np.sqrt(s), of.rank) / np.sqrt(s) @ U.T)


def cloq(of: Layer) -> F64:
    """By the root s^(1/2) U^T of the SVD of H."""
    U, s, _ = np.linalg.svd(of.H)
    root = np.sqrt(s)[:, None] * U.T
    return after(of, lambda E: cut(E @ root.T, of.rank) @ np.linalg.inv(root.T))


def loftq(of: Layer) -> F64:
    """Q of W - L R and L R of W - Q, from L R = 0, five times."""
    lr = np.zeros_like(of.W)
    for _ in range(5):
        Q = of.codes(of.W - lr)
        lr = cut(of.W - Q, of.rank)
    return Q + lr


def factors_first(
    of: Layer, approximated: Callable[[F64], F64], loss: Callable[[F64], float]
) -> F64:
    """L R of W - Q and Q of W - L R, from Q = 0, while the error falls."""
    Q, best, least = np.zeros_like(of.W), of.W, np.inf
    for _ in range(20):
        lr = approximated(of.W - Q)
        Q = of.codes(of.W - lr)
        if loss(of.W - Q - lr) >= least:
            break
        best, least = Q + lr, loss(of.W - Q - lr)
    return best


def svdquant(of: Layer) -> F64:
    columns = np.abs(of.X).mean(0) ** 0.5
    return factors_first(
        of,
        lambda E: scaled(E, columns, of.rank),
        lambda E: float(np.square(E * columns).sum()),
    )


def lq_lora(of: Layer) -> F64:
    """Rows and columns scaled by the roots of the Fisher information's sums."""
    columns, rows = np.sqrt(of.fisher.sum(0)), np.sqrt(of.fisher.sum(1))
    return factors_first(
        of,
        lambda E: scaled(E, columns, of.rank, rows),
        lambda E: float(np.square(rows[:, None] * E * columns).sum()),
    )
