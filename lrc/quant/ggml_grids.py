"""Encoding half of ggml's grids of vectors: scales, codes with feedback, and their polish."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc.codebooks.ggml_grids import GridLayout
from lrc.codebooks.ggml_layout import Blocks
from lrc.quant.base import F32
from lrc.quant.ggml_scales import whole_multiples
from lrc_kernels.cpu.encode.grids import SIGNED, fit_stretches, nearest_points, round_points

#: Sizes that are tried, where the largest weight comes beside the largest value.
_REACHES = np.array([0.5, 0.56, 0.63, 0.7, 0.77, 0.84, 0.91, 0.98, 1.05, 1.15], np.float32)


def fit_grid(X: F32, weights: F32, layout: GridLayout) -> Blocks:
    """Scales of blocks ``X`` f32 (..., 256), and the nearest points under them.

    ``weights`` f32, which broadcasts against X, says what the squared error of a weight counts.
    """
    lead = X.shape[:-1]
    flat = np.ascontiguousarray(X, np.float32).reshape(-1, layout.block)
    counted = np.broadcast_to(np.asarray(weights, np.float32), X.shape).reshape(flat.shape)
    counted = np.ascontiguousarray(counted)
    search, shape = _search(layout), (len(flat), layout.count)
    x, w = (a.reshape(len(flat) * layout.count, layout.stretch) for a in (flat, counted))
    scale, curvature = fit_stretches(x, w, _REACHES, *search, layout.table)
    d, s = whole_multiples(
        scale.reshape(shape), curvature.reshape(shape), *layout.range("scales"), layout.step
    )
    codes = nearest_points(flat, counted, d.astype(np.float32)[:, None] * s, *search)
    return Blocks(
        codes.reshape(X.shape),
        s.astype(np.int8).reshape(*lead, layout.count),
        np.zeros((*lead, layout.count), np.uint8),
        d.reshape(lead),
        np.zeros(lead, np.float16),
    )


def round_block(
    weight: F32, target: F32, within: F32, columns: F32, blocks: Blocks, layout: GridLayout
) -> NDArray[np.uint8]:
    """Codes u8 (m, 256) of one block with feedback, under the scales of ``blocks`` (m, 1).

    Parameters
    ----------
    weight, target
        f32 (m, 256): W, and what feedback from later blocks has made of it.
    within
        f32 (256, 256), strictly lower: feedback inside the block.
    columns
        f32 (256,): what LDLQ loses by the squared error of each column.
    """
    # An error is seen in its own column, and in those before it in its eight.
    unit = within.reshape(-1, SIGNED, len(within) // SIGNED, SIGNED)
    own = unit[np.arange(len(unit)), :, np.arange(len(unit)), :]
    counted = columns + np.einsum("eij,ej->ei", np.square(own), columns.reshape(-1, SIGNED)).ravel()
    return round_points(
        weight, target, within, counted.astype(np.float32), blocks.d[:, 0].astype(np.float32),
        blocks.scales[:, 0].astype(np.int16), *_search(layout), layout.table,
    )  # fmt: skip


def _search(layout: GridLayout) -> tuple[F32, NDArray[np.uint8], int]:
    """Points, their digits, and the number of magnitudes."""
    return layout.points, layout.digits, len(layout.magnitudes)
