"""Decode-side scales: one a matrix, a row, or a group of columns in a row; float16 on disk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc.codebooks.base import spread as spread
from lrc.quant.base import Quantizer

#: Multiples of the RMS rule that are tried for each row or group.
_MULTIPLES = (0.7, 0.8, 0.87, 0.93, 1.0, 1.07, 1.15, 1.25, 1.4)


def as_stored(scale: NDArray[np.floating]) -> NDArray[np.float32]:
    """The float32 values that come back from float16 storage."""
    limit = np.finfo(np.float16)
    clipped = np.where(scale > 0, np.clip(scale, limit.smallest_subnormal, limit.max), 0.0)
    return clipped.astype(np.float16).astype(np.float32)


def matrix_scale(W: NDArray[np.float32], quantizer: Quantizer) -> NDArray[np.float32]:
    """One scale (1, 1) by the RMS rule: the input that a unit-variance codebook expects."""
    mean_square = np.einsum("ij,ij->", W, W, dtype=np.float64) / max(W.size, 1)
    return as_stored(np.full((1, 1), np.sqrt(mean_square) / quantizer.input_scale))


def group_scales(
    W: NDArray[np.float32], quantizer: Quantizer, group_size: int
) -> NDArray[np.float32]:
    """Scales (m, ceil(n/group)) of least rounding error; ``group_size`` 0 is the whole row.

    Candidates are multiples of the RMS rule and the largest magnitude. Cost: ten roundings.
    """
    m, n = W.shape
    width = group_size or n
    count = -(-n // width)
    padded = np.pad(W, ((0, 0), (0, count * width - n))).reshape(m, count, width)
    lengths = np.full(count, width)
    lengths[-1] = n - (count - 1) * width
    inside = np.arange(width) < lengths[:, None]
    square = np.einsum("mgw,mgw->mg", padded, padded, dtype=np.float64)
    rule = np.sqrt(square / lengths) / quantizer.input_scale
    top = np.abs(padded).max(axis=2) / _reach(quantizer)
    best = np.zeros((m, count), np.float32)
    least = np.full((m, count), np.inf)
    for candidate in (*(rule * k for k in _MULTIPLES), top):
        scale = as_stored(candidate)
        error = _group_error(padded, scale, quantizer, inside)
        better = error < least
        best = np.where(better, scale, best)
        least = np.where(better, error, least)
    return best


def _reach(quantizer: Quantizer) -> float:
    """Largest coordinate of the codeword nearest to a far point on the diagonal."""
    far = np.full((quantizer.block_rows, quantizer.block_size), 1e3, np.float32)
    return float(np.abs(quantizer.decode(quantizer.encode(far))).max())


def _group_error(
    grouped: NDArray[np.float32],
    scale: NDArray[np.float32],
    quantizer: Quantizer,
    inside: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Squared error of each group; padding, where ``inside`` is false, costs nothing."""
    m, count, width = grouped.shape
    wide = scale[:, :, None]
    scaled = np.divide(grouped, wide, out=np.zeros_like(grouped), where=wide != 0)
    pad = -width % quantizer.block_size
    if pad:  # padding with nothing takes longer than rounding a small matrix
        scaled = np.pad(scaled, ((0, 0), (0, 0), (0, pad)))
    flat = scaled.reshape(m, count * (width + pad))
    values = quantizer.decode(quantizer.encode(np.ascontiguousarray(flat)))
    error = values.reshape(m, count, width + pad)[:, :, :width] * wide - grouped
    error *= inside
    square: NDArray[np.float64] = np.einsum("mgw,mgw->mg", error, error, dtype=np.float64)
    return square
