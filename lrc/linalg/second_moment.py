"""Second moments of the inputs of a linear layer, streamed over chunks of tokens.

H = E[z z^T] of the inputs z that the compressed model sees, and, where two streams run,
C = E[x z^T] with the original model's inputs x at the same tokens. Products are float32
GEMMs over one chunk; sums over chunks are float64, or float32 from 4096 inputs on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import chunks, ordered_map
from lrc.errors import CalibrationError, SpecError
from lrc.linalg.incoherence import mirror_lower, symmetrise
from lrc.linalg.precision import is_wide, working_dtype
from lrc.linalg.token_rows import ChunkMoment, TokenRows, check_rows

#: Sums and means, in the dtype of `working_dtype`.
Sums: TypeAlias = NDArray[np.floating]

#: Rows of a moment that are added to at a time.
_ADDED_ROWS = 1024
#: Rows of a moment that are mixed with another's at a time.
_MIXED_ROWS = 256


@dataclass(frozen=True)
class Mixture:
    """Moments that move towards others: ``kept`` of these sums, and ``taken`` of the others'.

    ``borrowed`` is the share of the others, ``spread`` that of rows of the whole weight 1.
    """

    borrowed: float
    kept: float
    taken: float
    spread: float


def mixture_of(
    n: int, own: tuple[float, float, float], others: tuple[float, float, float]
) -> Mixture | None:
    """How sums of ``own`` rows move towards those of ``others``; None where these are none.

    Each is (weight, spread, trace). H becomes (r H + k tau H_others) / (r + k), with r the
    effective rows of its own, k the least of n and those of the others, and tau the ratio of the
    traces.
    """
    (weight, spread, trace), (other_weight, other_spread, other_trace) = own, others
    rows, many = effective_rows(weight, spread), effective_rows(other_weight, other_spread)
    prior = min(float(n), many)
    if prior == 0:
        return None
    borrowed = prior / (rows + prior)
    kept = (1 - borrowed) / weight if rows else 0.0
    taken = borrowed / other_weight
    if rows and trace > 0 and other_trace > 0:
        taken *= (trace / weight) / (other_trace / other_weight)
    # As of rows whose average has this variance.
    variance = (1 - borrowed) ** 2 / rows if rows else 0.0
    return Mixture(borrowed, kept, taken, variance + borrowed**2 / many)


def effective_rows(weight: float, spread: float) -> float:
    """Rows of equal weight that would estimate moments as well, from sums of 2nd, 4th powers."""
    return weight**2 / spread if spread else 0.0


def no_finite_rows(dropped: int) -> CalibrationError:
    """The error of moments that no row entered."""
    return CalibrationError(
        f"no finite activation among {dropped} tokens; check the model's weights"
    )


class SecondMoment:
    """Running sums of :class:`ChunkMoment`, in the dtype of `working_dtype`.

    Memory 8 n^2 bytes a moment, or 4 n^2 from 4096 inputs on, where :meth:`add_rows` makes no other
    array of that size.

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
        dtype = working_dtype(n)
        self._second: Sums = np.zeros((n, n), dtype)
        self._cross: Sums | None = np.zeros((n, n), dtype) if cross else None
        gap = np.zeros((residual_gap, n), dtype) if residual_gap else None
        self._residual_gap: Sums | None = gap

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
        self._count(chunk.rows, chunk.dropped, chunk.weight, chunk.spread)

    def add_rows(self, rows: TokenRows, threads: int) -> None:
        """Add what `TokenRows.moments` has, a few rows of the moments at a time, on threads.

        Of H only the triangle below the diagonal is summed. Cost T n^2, 2 T n^2 with two streams.
        """
        z = rows.z
        check_rows(rows, self.n, cross=self._cross is not None, gap=self._residual_gap is not None)
        jobs = [_Products(self._second, z, z, part, True) for part in chunks(self.n, _ADDED_ROWS)]
        for total, left in ((self._cross, rows.x), (self._residual_gap, rows.difference)):
            if total is not None and left is not None:
                jobs += [
                    _Products(total, left, z, part) for part in chunks(len(total), _ADDED_ROWS)
                ]
        for _ in ordered_map(_Products.add, jobs, threads):
            pass
        self._count(len(rows.z), rows.dropped, rows.weight, rows.spread)

    def _count(self, rows: int, dropped: int, weight: float, spread: float) -> None:
        self.rows += rows
        self.dropped += dropped
        self._weight += weight
        self._spread += spread

    @property
    def effective_rows(self) -> float:
        """Rows of equal weight that would estimate the moments as well; without weights, rows."""
        return effective_rows(self._weight, self._spread)

    def sums(self) -> ChunkMoment:
        """What was added up; not to be written to, and not after a mean was taken."""
        return ChunkMoment(
            self._second, self._cross, self._residual_gap,
            self.rows, self.dropped, self._weight, self._spread,
        )  # fmt: skip

    def shrink_to(self, shared: ChunkMoment) -> None:
        """Move towards the moments of more tokens, which are like them, in place.

        By :func:`mixture_of`; the cross moment likewise, and the gap of the residual stream towards
        none. Without rows it is H_shared. Few rows of many inputs estimate H badly, and those of
        other tokens tell at least its shape.
        """
        own = self._weight, self._spread, float(np.trace(self._second))
        theirs = float(np.trace(shared.second, dtype=np.float64))
        mixture = mixture_of(self.n, own, (shared.weight, shared.spread, theirs))
        if mixture is None:
            return
        self.borrowed = mixture.borrowed
        _mix(self._second, mixture.kept, shared.second, mixture.taken)
        if self._cross is not None:
            if shared.cross is None:
                raise SpecError("a two-stream moment can only move towards another")
            _mix(self._cross, mixture.kept, shared.cross, mixture.taken)
        if self._residual_gap is not None:
            self._residual_gap *= mixture.kept
        self._weight, self._spread = 1.0, mixture.spread

    def matrix(self) -> Sums:
        """H = sum z z^T / rows, by weight, symmetric, (n, n).

        Raises
        ------
        CalibrationError
            If no finite row was seen.
        """
        self._require_rows()
        H = self._mean("_second")
        if is_wide(self.n):  # all is there, or what is below the diagonal
            mirror_lower(H)
        else:
            symmetrise(H)
        return H

    def cross(self) -> Sums:
        """C = sum x z^T / rows, (n, n)."""
        self._require_rows()
        if self._cross is None:
            raise SpecError("this moment was built with one stream")
        return self._mean("_cross")

    def residual_gap(self) -> Sums | None:
        """D = sum d z^T / rows, (d, n), or None where no difference entered."""
        self._require_rows()
        return None if self._residual_gap is None else self._mean("_residual_gap")

    def _mean(self, name: str) -> Sums:
        if name in self._taken:
            raise SpecError("this mean was taken already")
        self._taken.add(name)
        total: Sums = getattr(self, name)
        total /= self._weight
        return total

    def _require_rows(self) -> None:
        if self._weight == 0:
            raise no_finite_rows(self.dropped)


@dataclass(frozen=True)
class _Products:
    """left^T right, of which the rows ``part`` are to be added to ``total``."""

    total: Sums
    left: NDArray[np.float32]
    right: NDArray[np.float32]
    part: slice
    symmetric: bool = False

    def add(self) -> None:
        """Add them; of a symmetric product only columns up to the last of them."""
        stop = self.part.stop if self.symmetric else None
        self.total[self.part, :stop] += self.left[:, self.part].T @ self.right[:, :stop]


def _mix(out: Sums, kept: float, other: NDArray[np.floating], taken: float) -> None:
    """``out`` becomes ``kept * out + taken * other``, some rows at a time: both may be large."""
    for rows in chunks(len(out), _MIXED_ROWS):
        out[rows] *= kept
        out[rows] += taken * other[rows]
