"""Keys and values of a cache in 8 or 4 bits, in NumPy.

The layout, and why rows are rotated first, is that of `lrc_kernels.cpu.engine.kept_codes`, which
the compiled loops read and write.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.errors import SpecError
from lrc_kernels.rotate import hadamard_transform

F32 = NDArray[np.float32]

#: Widths of a code, and numbers that share a scale.
BITS, GROUP = (8, 4), 32


def check_bits(bits: int, head_dim: int) -> None:
    """Refuse widths that there are not, and heads that have no whole groups.

    Raises
    ------
    SpecError
        With what there is.
    """
    if bits not in BITS:
        raise SpecError(f"kv_bits={bits} must be 8 or 4, or 0 for float32")
    if head_dim % GROUP:
        raise SpecError(
            f"keys and values of {head_dim} numbers a head have no codes of {bits} bits, which "
            f"take multiples of {GROUP}; leave kv_bits out"
        )


def encode(rows: F32, bits: int) -> tuple[NDArray[np.int8], F32]:
    """Codes int8 (..., dim bits / 8) of rows (..., dim), and scales f32 (..., dim / 32)."""
    top = np.float32(2 ** (bits - 1) - 1)
    rotated = hadamard_transform(np.ascontiguousarray(rows, np.float32))
    grouped = rotated.reshape(*rows.shape[:-1], -1, GROUP)
    most = np.abs(grouped).max(axis=-1)
    steps = np.divide(top, most, out=np.zeros_like(most), where=most > 0)
    codes = np.rint(grouped * steps[..., None]).astype(np.int8)
    if bits == 4:
        half = GROUP // 2
        low, high = codes[..., :half].view(np.uint8), codes[..., half:].view(np.uint8)
        codes = (low & 15 | high << 4).view(np.int8)
    return codes.reshape(*rows.shape[:-1], -1), most / top


def decode(codes: NDArray[np.int8], scales: F32, bits: int) -> F32:
    """Rows (..., dim) f32 that codes stand for."""
    grouped: NDArray[Any] = codes.reshape(*scales.shape, -1)
    if bits == 4:
        # Shifts keep signs.
        grouped = np.concatenate([np.left_shift(grouped, 4) >> 4, grouped >> 4], axis=-1)
    rotated = grouped.astype(np.float32) * scales[..., None]
    return hadamard_transform(rotated.reshape(*scales.shape[:-1], -1), transpose=True)
