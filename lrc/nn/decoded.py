"""Rows of packed matrices as float32, decoded by vector kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc.formats.codec import LATTICE, RESIDUAL_SCALE, levels
from lrc.formats.matrix import PackedMatrix
from lrc.nn.level_bytes import level_bytes
from lrc_kernels.cpu.decode_levels import decode_rows_scalar
from lrc_kernels.cpu.decode_rows import decode_rows_lattice

F32 = NDArray[np.float32]


def decoded_rows(matrix: PackedMatrix, scales: F32, rows: slice) -> F32:
    """Rows of Q with scales and gain, in the rotated basis: f32 (count, n).

    What ``matrix.rows`` gives, to rounding, at many times its speed.

    Parameters
    ----------
    matrix
        Not of codebook "none".
    scales
        The matrix's scales times its gain, f32 of the same shape.
    rows
        Of step 1.
    """
    planes = [np.ascontiguousarray(plane[rows]) for plane in matrix.planes]
    out = np.empty((planes[0].shape[0], matrix.shape[1]), np.float32)
    own = scales[rows] if scales.shape[0] > 1 else scales
    if matrix.codebook in LATTICE:
        second = planes[1] if len(planes) > 1 else None
        divisor = RESIDUAL_SCALE.get(matrix.codebook, 1.0)
        decode_rows_lattice(planes[0], own[:, 0], matrix.shape[1], out, second, divisor)
        return out
    known = level_bytes(matrix.codebook, matrix.bits)
    if known is None:
        table = levels(matrix.codebook, matrix.bits)
        decode_rows_scalar(planes[0], matrix.bits, own, matrix.group_size, out, levels=table)
    else:
        decode_rows_scalar(planes[0], matrix.bits, own, matrix.group_size, out, **known._asdict())
    return out
