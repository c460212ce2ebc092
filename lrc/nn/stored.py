"""A linear layer and an embedding on weights that stay in the type they are stored in."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import row_tiles
from lrc.formats.stored import StoredMatrix
from lrc.nn.execution import PLAIN, Execution

F32 = NDArray[np.float32]

#: Tokens up to which widening costs more than multiplying, so that tiles have to fit a cache.
FEW_TOKENS = 64
#: Weights of such a tile, and of the memory that each thread keeps for tiles.
SCRATCH = 1 << 17

_OF_THREAD = threading.local()


def _scratch(length: int) -> F32:
    """Memory f32 (length,) of this thread: pages that come and go cost as much as widening."""
    if length > SCRATCH:
        return np.empty(length, np.float32)
    if not hasattr(_OF_THREAD, "scratch"):
        _OF_THREAD.scratch = np.empty(SCRATCH, np.float32)
    kept: F32 = _OF_THREAD.scratch
    return kept[:length]


class StoredLinear:
    """A linear layer that widens a tile of rows at a time; no bit depends on the threads.

    Parameters
    ----------
    matrix : StoredMatrix
        (m, n).
    bias : (m,) float32 or None
    """

    def __init__(self, matrix: StoredMatrix, bias: F32 | None = None) -> None:
        self.matrix = matrix
        self.bias = bias

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs."""
        return self.matrix.shape

    def __call__(self, x: F32, execution: Execution = PLAIN) -> F32:
        """Map (..., n) float32 to (..., m) float32."""
        m, n = self.shape
        flat = x.reshape(-1, n)
        y = np.empty((len(flat), m), np.float32)

        def tile(rows: slice) -> None:
            weight = _scratch((rows.stop - rows.start) * n).reshape(-1, n)
            self.matrix.copy_rows(rows, weight)
            np.matmul(flat, weight.T, out=y[:, rows])

        few = len(flat) <= FEW_TOKENS
        execution.each(tile, row_tiles(m, most=max(SCRATCH // n // 16, 1) * 16 if few else 512))
        if self.bias is not None:
            y += self.bias
        return y.reshape(*x.shape[:-1], m)


class StoredEmbedding:
    """An embedding of which only the rows that are asked for are widened.

    Parameters
    ----------
    matrix : StoredMatrix
        (vocab, n).
    """

    def __init__(self, matrix: StoredMatrix) -> None:
        self.matrix = matrix

    def rows(self, ids: NDArray[np.integer]) -> F32:
        """Rows (..., n) float32 at ``ids`` (...)."""
        return self.matrix.rows(ids)
