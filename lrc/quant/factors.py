"""Quantized low-rank factors: components as rows, one float16 scale a component."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc.formats.matrix import Factor
from lrc.quant.scalar import LloydMax
from lrc.quant.scales import group_scales


def quantize_factor(components: NDArray[np.floating], bits: int) -> Factor:
    """Nearest packed factor to ``components`` (r, length): Lloyd-Max levels, or float16 at 16.

    One scale a component, because R carries the singular values; float16 clips at its largest.
    """
    values = np.ascontiguousarray(components, np.float32)
    length = values.shape[1]
    if bits == 16:
        most = float(np.finfo(np.float16).max)
        words = np.clip(values, -most, most).astype(np.float16)
        return Factor(16, length, words, np.zeros(0, np.float16))
    quantizer = LloydMax(bits)
    scale = group_scales(values, quantizer, 0)
    scaled = np.divide(values, scale, out=np.zeros_like(values), where=scale != 0)
    (words,) = quantizer.pack(quantizer.encode(scaled))
    return Factor(bits, length, words, scale[:, 0].astype(np.float16))
