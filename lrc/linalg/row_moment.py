"""Second moments of few tokens of many inputs: the tokens' rows themselves, not their products."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc.errors import SpecError
from lrc.linalg.diagonal_plus_low_rank import DiagonalPlusLowRank
from lrc.linalg.second_moment import effective_rows, mixture_of, no_finite_rows
from lrc.linalg.token_rows import TokenRows, check_rows

F32 = NDArray[np.float32]

#: Inputs from which rows are kept instead of products, where tokens are few.
LEAST_INPUTS = 8192
#: And how many times fewer the tokens must be: then products with rows cost no more.
LEAST_RATIO = 4


def rows_are_few(tokens: int, n: int) -> bool:
    """Whether moments of so many tokens of n inputs are kept as rows: a rule by size alone."""
    return n >= LEAST_INPUTS and LEAST_RATIO * tokens <= n


class RowMoment:
    """What :class:`lrc.linalg.second_moment.SecondMoment` is, of rows that are kept.

    Rows are float32, scaled so that sums over them are means. Memory 4 T n bytes a stream, and
    as much when they are handed out; products are exact to float32, as if all were one chunk.
    """

    def __init__(self, n: int, *, cross: bool = False, residual_gap: int = 0) -> None:
        self.n = n
        self.dropped = 0
        self.borrowed = 0.0
        self._cross, self._gap = cross, residual_gap
        self._weight = self._spread = 0.0
        self._own: list[TokenRows] = []
        self._others: list[TokenRows] = []
        self._kept, self._taken = 1.0, 0.0

    def add(self, rows: TokenRows) -> None:
        """Add rows of some tokens, which must stay as they are until they are handed out."""
        check_rows(rows, self.n, cross=self._cross, gap=self._gap > 0)
        self._own.append(rows)
        self.dropped += rows.dropped
        self._weight += rows.weight
        self._spread += rows.spread

    @property
    def rows(self) -> int:
        """Finite rows that were added, without those of others."""
        return sum(len(rows.z) for rows in self._own)

    @property
    def effective_rows(self) -> float:
        """Rows of equal weight that would estimate the moments as well."""
        return effective_rows(self._weight, self._spread)

    def shrink_to(self, shared: list[TokenRows]) -> None:
        """Move towards the moments of other tokens, as `SecondMoment.shrink_to` does."""
        weight, spread = sum(rows.weight for rows in shared), sum(rows.spread for rows in shared)
        own = self._weight, self._spread, _trace(self._own)
        mixture = mixture_of(self.n, own, (weight, spread, _trace(shared)))
        if mixture is None:
            return
        if self._cross and any(rows.x is None for rows in shared):
            raise SpecError("a two-stream moment can only move towards another")
        self.borrowed, self._others = mixture.borrowed, shared
        self._kept, self._taken = mixture.kept, mixture.taken
        self._weight, self._spread = 1.0, mixture.spread

    def matrix(self) -> DiagonalPlusLowRank:
        """H = sum z z^T / rows, by weight, with nothing on the diagonal beside it.

        Raises
        ------
        CalibrationError
            If no finite row was seen.
        """
        rows = self._scaled("z", self.n)
        return DiagonalPlusLowRank(np.zeros(self.n), rows, np.ones(len(rows), np.float32))

    def cross(self) -> F32:
        """Rows x of the original, in the places of those of :meth:`matrix`, float32 (k, n)."""
        if not self._cross:
            raise SpecError("this moment was built with one stream")
        return self._scaled("x", self.n)

    def residual_gap(self) -> F32 | None:
        """Rows of the residual streams' difference, likewise, float32 (k, d); zero for others."""
        return self._scaled("difference", self._gap) if self._gap else None

    def _scaled(self, name: str, width: int) -> F32:
        """The field ``name`` of all rows, each times the root of its part of the mean."""
        if self._weight == 0:
            raise no_finite_rows(self.dropped)
        count = self.rows + sum(len(rows.z) for rows in self._others)
        result = np.zeros((count, width), np.float32)
        start = 0
        for group, part in ((self._own, self._kept), (self._others, self._taken)):
            factor = np.float32(np.sqrt(part / self._weight))
            for rows in group:
                found = getattr(rows, name)
                if found is not None:
                    np.multiply(found, factor, out=result[start : start + len(found)])
                start += len(rows.z)
        return result


def _trace(group: list[TokenRows]) -> float:
    """tr(sum z z^T), float64."""
    return sum(float(np.einsum("ij,ij->", rows.z, rows.z, dtype=np.float64)) for rows in group)
