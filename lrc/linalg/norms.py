"""The proxy loss tr(E H E^T) and what is derived from it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import chunks, ordered_map
from lrc.errors import NumericalError
from lrc.linalg.diagonal_plus_low_rank import (
    DiagonalPlusLowRank,
    Moment,
    as_dtype,
    largest_size,
)
from lrc.linalg.precision import is_wide

_CHUNK_ROWS = 512
#: Columns of a wide moment that are multiplied together.
_CHUNK_COLUMNS = 512


def proxy_loss(E: NDArray[np.floating], H: Moment, threads: int = 1, device: str = "cpu") -> float:
    """tr(E H E^T) = E||E z||^2 for z with second moment H, symmetric; E (m, n), H (n, n).

    Rows are cut alike for any ``threads``, so their number never changes the sum. On another
    ``device`` sums are rounded in its order; an H of low rank is the CPU's anywhere. Cost 2 m n^2,
    half of that from 4096 inputs on, where only one triangle of H is read, and 2 m n k at rank k.
    """
    if device != "cpu" and isinstance(H, np.ndarray):
        from lrc.linalg import cuda

        return cuda.proxy_loss(E, H)
    metric = as_dtype(H, E.dtype)

    def part(rows: slice) -> float:
        if isinstance(metric, DiagonalPlusLowRank):
            return metric.energy(E[rows])
        if is_wide(len(metric)):
            return _energy_by_triangle(E[rows], metric)
        return float(np.einsum("ij,ij->", E[rows] @ metric, E[rows], dtype=np.float64))

    return sum(ordered_map(part, chunks(len(E), _CHUNK_ROWS), threads))


def _energy_by_triangle(E: NDArray[np.floating], H: NDArray[np.floating]) -> float:
    """tr(E H E^T) from what is on and below the diagonal of H, by blocks of columns."""
    total = 0.0
    for columns in chunks(len(H), _CHUNK_COLUMNS):
        own, after = E[:, columns], slice(columns.stop, None)
        product = E[:, after] @ H[after, columns]
        product *= 2
        product += own @ H[columns, columns]
        total += float(np.einsum("ij,ij->", product, own, dtype=np.float64))
    return total


def squared_norm(
    E: NDArray[np.floating], H: Moment, threads: int = 1, device: str = "cpu"
) -> float:
    """The proxy loss of a positive semidefinite H, at least 0: rounding may take it below.

    Raises
    ------
    NumericalError
        It is further below than rounding explains, so H is indefinite.
    """
    loss = proxy_loss(E, H, threads, device)
    if loss >= 0:
        return loss
    size = largest_size(H) * float(np.square(E, dtype=np.float64).sum())
    if loss < -len(H) * float(np.finfo(E.dtype).eps) * size:
        raise NumericalError(
            f"an error of {loss:.1e} was measured with a second moment of shape {H.shape}, which "
            "is not positive semidefinite; check how it was made"
        )
    return 0.0


def times_metric(
    A: NDArray[np.floating], H: Moment, threads: int = 1, device: str = "cpu"
) -> NDArray[np.floating]:
    """A H for A (m, n), in the dtype of A, by chunks of rows. Cost 2 m n^2."""
    if device != "cpu" and isinstance(H, np.ndarray):
        from lrc.linalg import cuda

        return cuda.times_metric(A, H)
    result = np.empty_like(A)
    metric = as_dtype(H, A.dtype)

    def part(rows: slice) -> None:
        result[rows] = A[rows] @ metric

    for _ in ordered_map(part, chunks(len(A), _CHUNK_ROWS), threads):
        pass
    return result


def relative_proxy_error(E: NDArray[np.floating], W: NDArray[np.floating], H: Moment) -> float:
    """sqrt(tr(E H E^T) / tr(W H W^T)); 0 when both vanish, inf when only W's does."""
    loss, energy = squared_norm(E, H), squared_norm(W, H)
    if energy <= 0:
        return 0.0 if loss <= 0 else float("inf")
    return float(np.sqrt(loss / energy))


def relative_norm(E: NDArray[np.floating], W: NDArray[np.floating]) -> float:
    """||E||_F / ||W||_F; 0 where W is 0."""
    lost, whole = rms(E), rms(W)
    return lost / whole if whole > 0 else 0.0


def rms(W: NDArray[np.floating]) -> float:
    """Root mean square of all entries, float64."""
    return float(np.sqrt(np.einsum("ij,ij->", W, W, dtype=np.float64) / max(W.size, 1)))


def incoherence(W: NDArray[np.floating]) -> float:
    """max|W| sqrt(m n) / ||W||_F: 1 for a flat matrix, sqrt(m n) for a single spike."""
    scale = rms(W)
    return float(np.abs(W).max() / scale) if scale > 0 else 0.0
