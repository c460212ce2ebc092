"""Second moments of the inputs of a linear layer, streamed over chunks of tokens.

H = E[z z^T] of the inputs z that the compressed model sees, and, where two streams run,
C = E[x z^T] with the original model's inputs x at the same tokens. Products are float32
GEMMs over one chunk; sums over chunks are float64.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.errors import CalibrationError, SpecError
from lrc.linalg.incoherence import symmetrise


@dataclass(frozen=True)
class ChunkMoment:
    """Unnormalised moments of one chunk.

    ``second`` is Z^T Z, float32 (n, n); ``cross`` is X^T Z or None; ``residual_gap`` D^T Z (d, n)
    or None; ``rows`` counts the finite rows that entered, ``dropped`` those that did not.
    """

    second: NDArray[np.float32]
    cross: NDArray[np.float32] | None
    residual_gap: NDArray[np.float32] | None
    rows: int
    dropped: int


def chunk_moment(
    z: NDArray[np.float32],
    x: NDArray[np.float32] | None = None,
    difference: NDArray[np.float32] | None = None,
) -> ChunkMoment:
    """Moments of one chunk: z, and x where two streams run, are float32 (T, n).

    ``difference`` (T, d) is what the student's residual stream lacks there.

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
        x = x[finite] if x is not None else None
        difference = difference[finite] if difference is not None else None
    cross = x.T @ z if x is not None else None
    residual_gap = difference.T @ z if difference is not None else None
    return ChunkMoment(z.T @ z, cross, residual_gap, int(finite.sum()), int((~finite).sum()))


class SecondMoment:
    """Running sums of :class:`ChunkMoment`, float64 (n, n); memory 8 n^2 bytes a moment.

    Each mean is the array of its sum, divided, and can be taken once: at n = 11008 a copy is a
    gigabyte. ``residual_gap`` is the width d of the residual stream where its difference enters
    too, else 0.
    """

    def __init__(self, n: int, *, cross: bool = False, residual_gap: int = 0) -> None:
        self.n = n
        self.rows = 0
        self.dropped = 0
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

    def matrix(self) -> NDArray[np.float64]:
        """H = sum z z^T / rows, symmetric, float64 (n, n).

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
        total /= self.rows
        return total

    def _require_rows(self) -> None:
        if self.rows == 0:
            raise CalibrationError(
                f"no finite activation among {self.dropped} tokens; check the model's weights"
            )
