"""Quantized low-rank factors: components as rows, one float16 scale a component."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc.parts.low_rank import Factor
from lrc.quant.ldlq import Grid, Rounded, polish, round_to_nearest
from lrc.quant.scalar import LloydMax
from lrc.quant.scales import group_scales

_SWEEPS = 2


def quantize_factor(
    components: NDArray[np.floating],
    bits: int,
    *,
    gram: NDArray[np.floating] | None = None,
    threads: int = 1,
) -> Factor:
    """Packed factor near ``components`` (r, length): Lloyd-Max levels, or float16 at 16 bits.

    One scale a component, because R carries the singular values; float16 clips at its largest.
    Entries are rounded to nearest. With ``gram`` M (r, r) they are then moved, one component
    after the other, where that lowers tr(E^T M E) of the error E: for L this is the loss itself,
    with M = R H R^T.

    Notes
    -----
    Law: the loss is never above that of nearest rounding. Cost 4 length r^2.
    """
    values = np.ascontiguousarray(components, np.float32)
    length = values.shape[1]
    if bits == 16:
        most = float(np.finfo(np.float16).max)
        words = np.clip(values, -most, most).astype(np.float16)
        return Factor(16, length, words, np.zeros(0, np.float16))
    quantizer = LloydMax(bits)
    scale = group_scales(values, quantizer, 0)
    rounded = round_to_nearest(values, Grid(quantizer, scale))
    codes = rounded.codes[0]
    if gram is not None and values.size:
        transposed = Rounded((codes.T,), rounded.values.T)
        weights, grid = np.ascontiguousarray(values.T), Grid(quantizer, scale.T)
        metric = np.asarray(gram, np.float32)
        codes = polish(weights, transposed, metric, grid, _SWEEPS, threads=threads).codes[0].T
    (words,) = quantizer.pack((np.ascontiguousarray(codes),))
    return Factor(bits, length, words, scale[:, 0].astype(np.float16))
