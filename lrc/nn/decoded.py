"""Rows of packed matrices as float32, decoded by vector kernels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc.codebooks.codec import LATTICE, RESIDUAL_SCALE, STATE_BITS, TRELLIS, band_rows, levels
from lrc.nn.level_bytes import level_bytes
from lrc.parts.matrix import PackedMatrix
from lrc_kernels.cpu.codes.decode_levels import decode_rows_scalar
from lrc_kernels.cpu.codes.decode_rows import decode_rows_lattice
from lrc_kernels.cpu.codes.trellis import decode_rows_trellis

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
    if matrix.codebook in TRELLIS:
        return _decoded_bands(matrix, scales[:, 0], rows)
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


def _decoded_bands(matrix: PackedMatrix, scales: F32, rows: slice) -> F32:
    """The same of a trellis: whole bands are decoded, and cut where ``rows`` begin or end."""
    m, n = matrix.shape
    band = band_rows(matrix.codebook, m)
    start, stop, _ = rows.indices(m)
    first, last = start // band, -(-stop // band)
    words = np.ascontiguousarray(matrix.planes[0][first:last])
    own = scales[band * first : band * last] if len(scales) > 1 else scales
    out = np.empty((band * (last - first), n), np.float32)
    decode_rows_trellis(words, matrix.bits, STATE_BITS[matrix.codebook], own, out, band)
    return out[start - band * first : stop - band * first]
