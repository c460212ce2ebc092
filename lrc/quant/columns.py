"""LDLQ and polish of trellis codes: columns by compiled loops, products between them by BLAS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lrc.linalg.diagonal_plus_low_rank import Moment
from lrc.linalg.running_product import Feedback, running_feedback, running_product
from lrc.quant.base import F32, Quantizer

if TYPE_CHECKING:
    from lrc_kernels.cpu.encode.columns import ColumnSearch

U16 = NDArray[np.uint16]
#: Where rings are cut in one sweep of the polish and in the next.
_CUTS = (128, 0)


def column_search(quantizer: Quantizer, scale: F32) -> ColumnSearch | None:
    """The compiled loops for a grid; None where it has none, or scales of columns."""
    found: ColumnSearch | None = getattr(quantizer, "columns", None)
    return found if scale.shape[1] == 1 else None


def ldlq_columns(
    search: ColumnSearch,
    W: F32,
    feedback: Feedback,
    quantizer: Quantizer,
    scale: F32,
    column_panels: list[slice],
) -> tuple[U16, F32]:
    """States u16 (m, ceil(n / b), b) and values f32 (m, n) of rows that :func:`ldlq` rounds."""
    (m, n), b = W.shape, quantizer.block_size
    states, values, error = np.empty((m, -(-n // b), b), np.uint16), np.empty_like(W), W.copy()
    units = np.ascontiguousarray(scale[:, 0])
    running = running_feedback(feedback, m)
    for at in reversed(column_panels):
        weights = np.ascontiguousarray(W[:, at])
        target = weights + running.columns(error, at)
        own = np.ascontiguousarray(running.within(at), np.float32)
        found, rounded, lost = states[:, _blocks(at, b)], np.empty_like(weights), target.copy()
        search.ldlq(quantizer.block_rows, weights, target, own, units, found, rounded, lost)
        values[:, at], error[:, at] = rounded, lost
        running.changed(lost, at)
    return states, values


def polish_columns(
    search: ColumnSearch,
    W: F32,
    states: U16,
    values: F32,
    H: Moment,
    inverses: list[F32],
    quantizer: Quantizer,
    scale: F32,
    column_panels: list[slice],
    sweeps: int,
) -> tuple[U16, F32]:
    """New states and values of rows that :func:`polish` goes over ``sweeps`` times.

    A search keeps the bits that a ring has in common where it is cut, at another place in every
    sweep: the codes that are there have them already.
    """
    b = quantizer.block_size
    states, values = states.copy(), values.copy()
    error = W - values
    units = np.ascontiguousarray(scale[:, 0])
    running = running_product(H, error)
    for sweep in range(sweeps):
        moved = 0
        for at in reversed(column_panels):
            gradient = np.ascontiguousarray(running.columns(error, at), np.float32)
            own = np.ascontiguousarray(running.within(at), np.float32)
            before, blocks = np.ascontiguousarray(error[:, at]), _blocks(at, b)
            rounded, lost = np.ascontiguousarray(values[:, at]), before.copy()
            moved += search.polish(
                quantizer.block_rows,
                _CUTS[sweep % 2],
                gradient,
                own,
                _stacked(inverses[blocks], b),
                units,
                states[:, blocks],
                rounded,
                lost,
            )
            values[:, at], error[:, at] = rounded, lost
            running.changed(lost - before, at)
        if moved == 0:
            break
    return states, values


def _blocks(at: slice, block_size: int) -> slice:
    return slice(at.start // block_size, -(-at.stop // block_size))


def _stacked(inverses: list[F32], block_size: int) -> F32:
    """As one array (blocks, b, b), the last padded."""
    found = np.zeros((len(inverses), block_size, block_size), np.float32)
    for wide, inverse in zip(found, inverses, strict=True):
        wide[: len(inverse), : len(inverse)] = inverse
    return found
