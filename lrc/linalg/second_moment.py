"""Second moments of the inputs of a linear layer, streamed over chunks of tokens.

H = E[z z^T] of the inputs z that the compressed model sees, and, where two streams run,
C = E[x z^T] with the original model's inputs x at the same tokens. Products are float32
GEMMs over one chunk; sums over chunks are float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import chunks
from lrc.errors import CalibrationError, SpecError
from lrc.linalg.incoherence import symmetrise

#: Rows of a moment that are mixed with another's at a time.
_MIXED_ROWS = 256


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


def chunk_moment(
    z: NDArray[np.float32],
    x: NDArray[np.float32] | None = None,
    difference: NDArray[np.float32] | None = None,
    weights: NDArray[np.float32] | None = None,
) -> ChunkMoment:
    """Moments of one chunk: z, and x where two streams run, are float32 (T, n).

    ``difference`` (T, d) is what the student's residual stream lacks there. ``weights`` (T,)
    multiply the rows of all three.

    A token whose row is not finite in either stream is left out and counted: one such row would
    poison whole rows of H, and no damping repairs that. Cost 2 T n^2 for each moment.
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
    kept, dropped = int(finite.sum()), int((~finite).sum())
    weight = spread = float(kept)
    if weights is not None:
        z = z * weights[:, None]
        x = None if x is None else x * weights[:, None]
        difference = None if difference is None else difference * weights[:, None]
        squares = weights.astype(np.float64) ** 2
        weight, spread = float(squares.sum()), float((squares**2).sum())
    cross = x.T @ z if x is not None else None
    residual_gap = difference.T @ z if difference is not None else None
    return ChunkMoment(z.T @ z, cross, residual_gap, kept, dropped, weight, spread)


class SecondMoment:
    """Running sums of :class:`ChunkMoment`, float64 (n, n); memory 8 n^2 bytes a moment.

    Each mean is the array of its sum, divided, and can be taken once: at n = 11008 a copy is a
    gigabyte. ``residual_gap`` is the width d of the residual stream where its difference enters
    too, else 0. ``borrowed`` is the share that :meth:`shrink_to` took from other tokens.
    """

    def __init__(self, n: int, *, cross: bool = False, residual_gap: int = 0) -> None:
        self.n = n
        self.rows = 0
        self.dropped = 0
        self.borrowed = 0.0
        self._weight = self._spread = 0.0
        self._taken: set[str] = set()
        self._second = np.zeros((n, n))
        self._cross = np.zeros((n, n)) if cross else None
        self._residual_gap = np.zeros((residual_gap, n)) if residual_gap else None

    def add(self, chunk: ChunkMoment) -> None:
        """Add one chunk's sums."""
        if chunk.second.shape != (self.n, self.n):
            raise SpecError(f"chunk of width {chunk.second.shape[0]} added to moment of {self.n}")
        if self._cross is not None:
            if chunk.cross is None:
                raise SpecError("a two-stream moment needs both streams in every chunk")
            self._cross += chunk.cross
        if self._residual_gap is not None:
            if chunk.residual_gap is None:
                raise SpecError("this moment needs the streams' difference in every chunk")
            self._residual_gap += chunk.residual_gap
        self._second += chunk.second
        self.rows += chunk.rows
        self.dropped += chunk.dropped
        self._weight += chunk.weight
        self._spread += chunk.spread

    @property
    def effective_rows(self) -> float:
        """Rows of equal weight that would estimate the moments as well; without weights, rows."""
        return self._weight**2 / self._spread if self._spread else 0.0

    def sums(self) -> ChunkMoment:
        """What was added up; not to be written to, and not after a mean was taken."""
        return ChunkMoment(
            self._second, self._cross, self._residual_gap,
            self.rows, self.dropped, self._weight, self._spread,
        )  # fmt: skip

    def shrink_to(self, shared: ChunkMoment) -> None:
        """Move towards the moments of more tokens, which are like them, in place.

        H becomes (r H + k tau H_shared) / (r + k), with r the effective rows, k the least of n and
        those of ``shared``, and tau the ratio of the traces; the cross moment likewise, and the gap
        of the residual stream towards none. Without rows it is H_shared. ``borrowed`` is then
        k / (r + k). Few rows of many inputs estimate H badly, and those of other tokens tell at
        least its shape.
        """
        own = self.effective_rows
        many = shared.weight**2 / shared.spread if shared.spread else 0.0
        prior = min(float(self.n), many)
        if prior == 0:
            return
        self.borrowed = prior / (own + prior)
        kept = (1 - self.borrowed) / self._weight if own else 0.0
        taken = self.borrowed / shared.weight
        mine, theirs = np.trace(self._second), float(np.trace(shared.second, dtype=np.float64))
        if own and mine > 0 and theirs > 0:
            taken *= (mine / self._weight) / (theirs / shared.weight)
        _mix(self._second, kept, shared.second, taken)
        if self._cross is not None:
            if shared.cross is None:
                raise SpecError("a two-stream moment can only move towards another")
            _mix(self._cross, kept, shared.cross, taken)
        if self._residual_gap is not None:
            self._residual_gap *= kept
        # As of rows whose average has this variance.
        variance = (1 - self.borrowed) ** 2 / own if own else 0.0
        self._weight, self._spread = 1.0, variance + self.borrowed**2 / many

    def matrix(self) -> NDArray[np.float64]:
        """H = sum z z^T / rows, by weight, symmetric, float64 (n, n).

        Raises
        ------
        CalibrationError
            If no finite row was seen.
        """
        self._require_rows()
        H = self._mean("_second")
        symmetrise(H)
        return H

    def cross(self) -> NDArray[np.float64]:
        """C = sum x z^T / rows, float64 (n, n)."""
        self._require_rows()
        if self._cross is None:
            raise SpecError("this moment was built with one stream")
        return self._mean("_cross")

    def residual_gap(self) -> NDArray[np.float64] | None:
        """D = sum d z^T / rows, float64 (d, n), or None where no difference entered."""
        self._require_rows()
        return None if self._residual_gap is None else self._mean("_residual_gap")

    def _mean(self, name: str) -> NDArray[np.float64]:
        if name in self._taken:
            raise SpecError("this mean was taken already")
        self._taken.add(name)
        total: NDArray[np.float64] = getattr(self, name)
        total /= self._weight
        return total

    def _require_rows(self) -> None:
        if self._weight == 0:
            raise CalibrationError(
                f"no finite activation among {self.dropped} tokens; check the model's weights"
            )


def _mix(out: NDArray[np.float64], kept: float, other: NDArray[np.floating], taken: float) -> None:
    """``out`` becomes ``kept * out + taken * other``, some rows at a time: both may be large."""
    for rows in chunks(len(out), _MIXED_ROWS):
        out[rows] *= kept
        out[rows] += taken * other[rows]
