"""The choice of a rank: what L R would take off the error, against what its bits would."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lrc.linalg.diagonal_plus_low_rank import Moment
from lrc.linalg.lowrank import top_eigenvectors, top_output_eigenvectors
from lrc.linalg.norms import proxy_loss
from lrc.solvers.few_tokens import Metric

#: What a predicted share of the loss falls short of: factors are rounded, and Q in a downdated
#: metric is polished less. Measured at ranks 2 to 32 on 576-wide matrices: 0.02 to 0.18.
_SHORTFALL = 0.12


def predicted_losses(
    T: NDArray[np.float32], metric: Metric, most: int, *, seed: int, device: str = "cpu"
) -> Callable[[int], float]:
    """Share of Q's loss that is left where L R first takes the leading r inputs from T (m, n).

    LDLQ loses tr(D) of the metric that it rounds in, times the mean square of what it rounds.
    Both fall: the metric to what L cannot absorb, the target by its share on those inputs.
    The function takes ranks up to ``most``; a call costs n^3/3 + 4 r n^2.
    """
    _, U = top_eigenvectors(metric.H, most, seed, device)
    parts = T @ U.astype(np.float32)
    taken = np.cumsum(np.einsum("ij,ij->j", parts, parts, dtype=np.float64))
    energy = float(np.einsum("ij,ij->", T, T, dtype=np.float64))

    def left(rank: int) -> float:
        remaining = 1.0 - float(taken[rank - 1]) / max(energy, 1e-300)
        return metric.downdated_loss(U[:, :rank].T) / metric.rounding_loss * remaining + _SHORTFALL

    return left


#: An automatic rank may add at most this fraction of the backbone's bits.
AUTOMATIC_BITS = 0.1


def most_automatic_rank(shape: tuple[int, ...], factor_bits: int, bits: int) -> int:
    """The largest rank that is considered beside codes of ``bits`` a weight."""
    return most_rank(shape, factor_bits, AUTOMATIC_BITS * bits)


def most_rank(shape: tuple[int, ...], factor_bits: int, most_bits: float) -> int:
    """The largest multiple of 8 that costs at most ``most_bits`` a weight and half the matrix."""
    return int(min(min(shape) // 2, most_bits / _bits_per_rank(shape, factor_bits))) // 8 * 8


def _bits_per_rank(shape: tuple[int, ...], factor_bits: int) -> float:
    return sum(shape) * factor_bits / math.prod(shape)


def rank_curve(
    E: NDArray[np.float32],
    H: Moment,
    most: int,
    *,
    seed: int,
    threads: int = 1,
    device: str = "cpu",
) -> NDArray[np.float64]:
    """Loss left after the best rank-r correction of E, r = 0 ... most: float64 (most + 1,)."""
    energies, _ = top_output_eigenvectors(E, H, most, seed, device)
    total = proxy_loss(E, H, threads, device)
    captured = np.concatenate(([0.0], np.cumsum(np.maximum(energies, 0.0))))
    return np.maximum(total - captured, 0.0)


def _lower_by_prediction(
    curve: NDArray[np.float64], most: int, per_rank: float, predicted: Callable[[int], float]
) -> None:
    """Lower ``curve`` (work) to what is predicted at powers of two, where that may be chosen.

    Predictions fall with the rank, and each costs a factorisation: from the largest down, one is
    made only where the last would, at fewer bits, be the best so far. Rank 8 is always told.
    """

    def worth(rank: int, loss: float) -> float:
        return 0.5 * float(np.log2(max(loss, 1e-300) / curve[0])) + rank * per_rank

    best, least = 0.0, 0.0
    for rank in [8 << k for k in range((most // 8).bit_length())][::-1]:
        if rank > 8 and worth(rank, least * curve[0]) > best:
            continue
        least = predicted(rank)
        curve[rank] = min(curve[rank], curve[0] * least)
        best = min(best, worth(rank, curve[rank]))


def choose_rank(
    E: NDArray[np.float32],
    H: Moment,
    factor_bits: int,
    *,
    most_bits: float,
    seed: int,
    threads: int = 1,
    predicted: Callable[[int], float] | None = None,
    device: str = "cpu",
) -> tuple[int, str]:
    """Rank whose fall in error pays for its bits, among multiples of 8, with the reason.

    A backbone of b more bits a weight would lower the loss by 4^-b; rank r is worth its
    ``r (m + n) factor_bits / (m n)`` bits only if it lowers the loss by more. Ranks that cost
    over ``most_bits`` a weight are not considered. The loss left is that of the best correction
    of the error E (m, n), or ``predicted(rank)`` of today's where that is less. Cost
    2 m n (m + n) and top eigenvalues (m, m), beside ``predicted`` at powers of two.
    """
    per_rank = _bits_per_rank(E.shape, factor_bits)
    most = most_rank(E.shape, factor_bits, most_bits)
    if most == 0:
        return 0, f"rank 0: rank 8 would add {8 * per_rank:.2f} bits a weight"
    curve = rank_curve(E, H, most, seed=seed, threads=threads, device=device)
    if curve[0] <= 0:
        return 0, "rank 0: nothing to correct"
    ranks = np.arange(0, most + 1, 8)
    if predicted is not None:
        _lower_by_prediction(curve, most, per_rank, predicted)
    worth = 0.5 * np.log2(np.maximum(curve[ranks], 1e-300) / curve[0]) + ranks * per_rank
    rank = int(ranks[int(np.argmin(worth))])
    fall = 1.0 - float(np.sqrt(curve[8] / curve[0]))
    even = 1.0 - 2.0 ** (-8 * per_rank)
    verdict = "pays" if rank else "does not pay"
    return rank, (
        f"rank {rank}: low rank {verdict} (rank 8 lowers the error by {fall:.1%}, "
        f"its bits given to Q would by {even:.1%})"
    )
