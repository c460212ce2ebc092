"""LDLQ and polish of grids whose blocks have scales of their own.

A block's scales are chosen when feedback has moved its weights, all blocks after it being rounded,
and stay; its codes follow one by one, each corrected by the errors so far.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from lrc.codebooks.ggml_grids import GridLayout
from lrc.codebooks.ggml_layout import Blocks
from lrc.linalg.diagonal_plus_low_rank import Moment
from lrc.linalg.running_product import Feedback, running_feedback
from lrc.quant.base import F32, Quantizer
from lrc.quant.ggml import GgmlBlocks
from lrc.quant.ggml_grids import round_block
from lrc.quant.ldlq import Rounded, block_inverses, over_rows
from lrc_kernels.cpu.encode.grids import SIGNED, polish_points
from lrc_kernels.cpu.encode.scaled import polish_columns, round_columns

I16 = NDArray[np.int16]


def has_own_scales(quantizer: Quantizer) -> bool:
    """Whether blocks of the quantizer have scales of their own that feedback may pass by."""
    return isinstance(quantizer, GgmlBlocks)


def feedback_size(quantizer: Quantizer) -> int:
    """Columns that LDLQ rounds together: a block, or one where codes follow under fixed scales."""
    return quantizer.feedback_size if isinstance(quantizer, GgmlBlocks) else quantizer.block_size


def column_weights(diagonal: NDArray[np.floating], feedback: Feedback) -> NDArray[np.floating]:
    """What LDLQ loses by the squared error of each column (n,): D of H = U D U^T.

    ``diagonal`` is that of H, ``feedback`` the strictly lower part of U. Where that is of low
    rank the diagonal of H stands for it.
    """
    if not isinstance(feedback, np.ndarray):
        return diagonal
    unit = np.square(feedback, dtype=np.float64)
    unit[np.diag_indices_from(unit)] = 1.0
    D = scipy.linalg.solve_triangular(unit, diagonal, lower=True, unit_diagonal=True)
    least: NDArray[np.floating] = np.maximum(D, 1e-6 * diagonal)
    return least


def ldlq_in_blocks(
    W: F32,
    feedback: Feedback,
    quantizer: Quantizer,
    weights: NDArray[np.floating],
    *,
    threads: int = 1,
) -> Rounded:
    """Round W (m, n) from the last column to the first, with scales found block by block.

    Parameters
    ----------
    feedback
        As in :func:`lrc.quant.ldlq.ldlq`, of single columns.
    weights
        (n,): what the squared error of a column counts where scales are chosen.

    Returns
    -------
    Rounded
        Codes are those of the quantizer.
    """
    assert isinstance(quantizer, GgmlBlocks)

    def work(rows: slice) -> Rounded:
        return _rows(W[rows], feedback, quantizer, np.asarray(weights, np.float32))

    return over_rows(work, W.shape, quantizer.block_rows, threads)


def _rows(W: F32, feedback: Feedback, quantizer: GgmlBlocks, weights: F32) -> Rounded:
    (m, n), size = W.shape, quantizer.block_size
    error, values = np.empty_like(W), np.empty_like(W)
    running = running_feedback(feedback, m)
    found: list[Blocks] = []
    for a in range(n - size, -1, -size):
        at = slice(a, a + size)
        weight = np.ascontiguousarray(W[:, at])
        target = weight + running.columns(error, at)
        blocks = quantizer.fit(target, weights[at])
        within = np.ascontiguousarray(running.within(at), np.float32)
        if isinstance(quantizer.layout, GridLayout):
            codes = round_block(weight, target, within, weights[at], blocks, quantizer.layout)
        else:
            own = _Numbers.of(blocks, m)
            codes = round_columns(
                weight, target, within, own.d[:, 0], own.s, own.dmin[:, 0], own.m,
                quantizer.table, quantizer.least,
            )  # fmt: skip
        blocks = blocks._replace(codes=codes[:, None])
        found.append(blocks)
        values[:, at] = quantizer.decode(blocks)
        error[:, at] = weight - values[:, at]
        running.changed(error[:, at], at)
    planes = zip(*reversed(found), strict=True)
    return Rounded(tuple(np.concatenate(plane, axis=1) for plane in planes), values)


class _Numbers(NamedTuple):
    """Scales and mins as kernels read them: d and dmin (m, blocks), s and m (m, stretches)."""

    d: F32
    s: I16
    dmin: F32
    m: I16

    @classmethod
    def of(cls, blocks: Blocks, rows: int) -> _Numbers:
        """Those of blocks (rows, k), copied."""
        return cls(
            blocks.d.astype(np.float32),
            blocks.scales.reshape(rows, -1).astype(np.int16),
            blocks.dmin.astype(np.float32),
            blocks.mins.reshape(rows, -1).astype(np.int16),
        )


def polish_in_blocks(
    W: F32,
    rounded: Rounded,
    H: Moment,
    quantizer: Quantizer,
    sweeps: int,
    *,
    threads: int = 1,
) -> Rounded:
    """Coordinate descent on codes, scales and mins; a move is made only if the loss falls.

    Each code goes where the loss is least given all others; each scale and min of a stretch to a
    neighbour where that is better; d and dmin of a block to the float16 nearest to their optimum.

    Notes
    -----
    Law: the loss tr((W - Q) H (W - Q)^T) never rises, to rounding. Cost m n^2 for the gradient,
    2 n for every move, and m n (block size) a sweep for d and dmin.
    """
    assert isinstance(quantizer, GgmlBlocks)
    whole = dense_moment(H)

    def work(rows: slice) -> Rounded:
        part = Rounded(tuple(c[rows] for c in rounded.codes), rounded.values[rows])
        return _polished(W[rows], part, whole, quantizer, sweeps)

    return over_rows(work, W.shape, quantizer.block_rows, threads)


def _polished(W: F32, begin: Rounded, H: F32, quantizer: GgmlBlocks, sweeps: int) -> Rounded:
    m, n = W.shape
    blocks = Blocks(*begin.codes)
    own = _Numbers.of(blocks, m)
    codes, values = blocks.codes.reshape(m, n).copy(), begin.values.copy()
    gradient = np.matmul(W - values, H, dtype=np.float32)
    layout = quantizer.layout
    if isinstance(layout, GridLayout):
        inverses = np.stack(block_inverses(H, SIGNED))
        polish_points(
            gradient, H, inverses, layout.table, layout.points, layout.digits,
            len(layout.magnitudes), layout.range("scales"), layout.step, sweeps, codes, own.s,
            own.d, values,
        )  # fmt: skip
    else:
        polish_columns(
            gradient, H, quantizer.table, quantizer.least, layout.range("scales"),
            layout.range("mins"), sweeps, codes, own.s, own.m, own.d, own.dmin, values,
        )  # fmt: skip
    fresh = Blocks(
        codes.reshape(blocks.codes.shape),
        own.s.reshape(blocks.scales.shape).astype(np.int8),
        own.m.reshape(blocks.mins.shape).astype(np.uint8),
        own.d.astype(np.float16),
        own.dmin.astype(np.float16),
    )
    return Rounded(tuple(fresh), values)


def dense_moment(H: Moment) -> F32:
    """H as one array, float32 (n, n)."""
    if isinstance(H, np.ndarray):
        return np.ascontiguousarray(H, np.float32)
    return H.block(slice(0, len(H))).astype(np.float32, copy=False)
