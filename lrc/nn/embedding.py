"""Token embeddings: one contract for dense and for compressed tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lrc.formats.stored import StoredMatrix
    from lrc.parts.matrix import PackedMatrix

Array = NDArray[np.float32]


class Embedding(Protocol):
    """Rows of a (vocab, n) table, which may also serve as a tied head."""

    @property
    def matrix(self) -> Array | PackedMatrix | StoredMatrix:
        """The table as it is held."""
        ...

    def rows(self, ids: NDArray[np.integer]) -> Array:
        """Rows (..., n) float32 at ``ids`` (...)."""
        ...


class DenseEmbedding:
    """An embedding on a dense float32 table.

    Parameters
    ----------
    matrix : (vocab, n) float32
    """

    def __init__(self, matrix: Array) -> None:
        self.matrix = matrix

    def rows(self, ids: NDArray[np.integer]) -> Array:
        """Rows (..., n) float32 at ``ids`` (...), copied."""
        rows: Array = self.matrix[ids]
        return rows


def make_embedding(weight: Array | PackedMatrix | StoredMatrix) -> Embedding:
    """Wrap a table (vocab, n), float32, packed or left as it is stored, as an `Embedding`."""
    if isinstance(weight, np.ndarray):
        return DenseEmbedding(weight)
    from lrc.formats.stored import StoredMatrix

    if isinstance(weight, StoredMatrix):
        from lrc.nn.stored import StoredEmbedding

        return StoredEmbedding(weight)
    from lrc.nn.packed import PackedEmbedding

    return PackedEmbedding(weight)
