"""Rows of tokens that enter second moments, and the products of one chunk of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.errors import SpecError


@dataclass(frozen=True)
class ChunkMoment:
    """Unnormalised moments of one chunk, or of several.

    ``second`` is Z^T Z (n, n), float32, or float64 of several; ``cross`` is X^T Z or None;
    ``residual_gap`` D^T Z (d, n) or None; ``rows`` counts the finite rows that entered, ``dropped``
    those that did not. Rows have weights where they were given: ``weight`` is the sum of their
    squares, ``spread`` that of their fourth powers, and both are ``rows`` where they were not.
    """

    second: NDArray[np.floating]
    cross: NDArray[np.floating] | None
    residual_gap: NDArray[np.floating] | None
    rows: int
    dropped: int
    weight: float
    spread: float


@dataclass(frozen=True)
class TokenRows:
    """Rows of tokens that are finite, times their weights; counts are those of `ChunkMoment`.

    ``z`` (T, n) are inputs, ``x`` those of the original model, ``difference`` (T, d) what the
    student's residual stream lacks; the last two are None where they were not given.
    """

    z: NDArray[np.float32]
    x: NDArray[np.float32] | None
    difference: NDArray[np.float32] | None
    dropped: int
    weight: float
    spread: float

    def moments(self) -> ChunkMoment:
        """Their products. Cost T n^2 for that of z, 2 T n^2 for the cross moment."""
        z = self.z
        cross = None if self.x is None else self.x.T @ z
        residual_gap = None if self.difference is None else self.difference.T @ z
        return ChunkMoment(
            z.T @ z, cross, residual_gap, len(z), self.dropped, self.weight, self.spread
        )


def token_rows(
    z: NDArray[np.float32],
    x: NDArray[np.float32] | None = None,
    difference: NDArray[np.float32] | None = None,
    weights: NDArray[np.float32] | None = None,
) -> TokenRows:
    """What of a chunk enters moments: z, and x where two streams run, are float32 (T, n).

    ``difference`` (T, d) is what the student's residual stream lacks there. ``weights`` (T,)
    multiply the rows of all three.

    A token whose row is not finite in either stream is left out and counted: one such row would
    poison whole rows of H, and no damping repairs that.
    """
    if x is not None and x.shape != z.shape:
        raise SpecError(f"streams of shapes {x.shape} and {z.shape} must agree")
    # A finite sum of squares proves a finite row without a boolean array of the full size.
    finite = np.isfinite(np.einsum("ij,ij->i", z, z))
    for other in (x, difference):
        if other is not None:
            finite &= np.isfinite(np.einsum("ij,ij->i", other, other))
    if not finite.all():
        z = z[finite]
        x, difference, weights = (
            None if rows is None else rows[finite] for rows in (x, difference, weights)
        )
    weight = spread = float(len(z))
    if weights is not None:
        z = z * weights[:, None]
        x = None if x is None else x * weights[:, None]
        difference = None if difference is None else difference * weights[:, None]
        squares = weights.astype(np.float64) ** 2
        weight, spread = float(squares.sum()), float((squares**2).sum())
    return TokenRows(z, x, difference, int((~finite).sum()), weight, spread)


def chunk_moment(
    z: NDArray[np.float32],
    x: NDArray[np.float32] | None = None,
    difference: NDArray[np.float32] | None = None,
    weights: NDArray[np.float32] | None = None,
) -> ChunkMoment:
    """Moments of one chunk; arguments are those of :func:`token_rows`."""
    return token_rows(z, x, difference, weights).moments()


def check_rows(rows: TokenRows, n: int, *, cross: bool, gap: bool) -> None:
    """Refuse rows that lack what a moment of n inputs is of."""
    if rows.z.shape[1] != n:
        raise SpecError(f"rows of width {rows.z.shape[1]} added to moment of {n}")
    if cross and rows.x is None:
        raise SpecError("a two-stream moment needs both streams in every chunk")
    if gap and rows.difference is None:
        raise SpecError("this moment needs the streams' difference in every chunk")
