"""A packed matrix times one vector on 15-bit activations: for heads, whose rows are many."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import chunks
from lrc.codebooks.codec import LATTICE, RESIDUAL_SCALE, STATE_BITS, TRELLIS, band_rows
from lrc.nn.tiles import each_tile
from lrc.parts.matrix import PackedMatrix
from lrc_kernels.cpu.dot import matvec_i8

F32 = NDArray[np.float32]

#: Rows of one piece of work, whole bands of every trellis.
TILE_ROWS = 4096


def integer_product(matrix: PackedMatrix, scales: F32, x: F32) -> F32 | None:
    """Q times a vector in the basis of the codes, on the threads of `tile_threads`.

    Parameters
    ----------
    matrix : PackedMatrix
    scales : (m or 1, groups) float32
        Its scales times its gain.
    x : (n,) float32

    Returns
    -------
    (m,) float32, or None where the codes have no such kernel.
    """
    m = matrix.shape[0]
    grouped = matrix.group_size % 64 == 0 and matrix.group_size > 0 and matrix.scales.shape[0] == m
    uniform = matrix.codebook == "uniform" and (grouped or matrix.scales.shape[1] == 1)
    if not (uniform or matrix.codebook in (*LATTICE, *TRELLIS)):
        return None
    act, y = matvec_i8.quantize(x), np.empty(m, np.float32)
    planes = [np.ascontiguousarray(plane) for plane in matrix.planes]

    def tile(rows: slice) -> None:
        if matrix.codebook in TRELLIS:
            band = band_rows(matrix.codebook, m)
            own = planes[0][rows.start // band : rows.stop // band]
            state_bits = STATE_BITS[matrix.codebook]
            matvec_i8.matvec_trellis(own, matrix.bits, state_bits, band, act, y[rows])
        elif uniform:
            halves = matrix.scales[rows] if grouped else None
            words = planes[0][rows]
            matvec_i8.matvec_uniform(words, matrix.bits, halves, matrix.group_size, act, y[rows])
        else:
            second = planes[1][rows] if len(planes) > 1 else None
            divisor = RESIDUAL_SCALE.get(matrix.codebook, 1.0)
            matvec_i8.matvec_lattice(planes[0][rows], act, second, divisor, y[rows])

    each_tile(tile, chunks(m, TILE_ROWS))
    y *= np.float32(matrix.gain) if uniform and grouped else scales[:, 0]
    return y
