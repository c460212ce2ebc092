"""Gradient at an embedding."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lrc.models.source import Ids
from lrc.refine.vjp import Array, rows_of


def embedding_gradient(parts: Iterable[tuple[Ids, Array]], vocab: int) -> Array:
    """The gradient at a table (vocab, n), of those at rows of it that were looked up.

    Parameters
    ----------
    parts : iterable of (ids, gradients)
        (B, T) integers, and (B, T, n): `Gradients.entries` of the parts of a batch.
    vocab : int

    Returns
    -------
    (vocab, n), the sum of the gradients of each token in their order.
    """
    total: Array | None = None
    for ids, g in parts:
        if total is None:
            total = np.zeros((vocab, g.shape[-1]), g.dtype)
        np.add.at(total, ids.reshape(-1), rows_of(g))
    assert total is not None
    return total
