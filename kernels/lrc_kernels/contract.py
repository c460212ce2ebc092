"""Names, shapes and dtypes of the kernels that every backend has, whole arrays in and out.

They suffice to encode with lattices and levels, to decode every codebook, and to multiply a vector
with codes on exact activations. Not among them, and taken from :mod:`lrc_kernels.cpu` by name, is
what makes the same values faster or in another shape there: search of a trellis, decoding of tiles
of rows, products on integer activations, rotation of rows, widening of 16-bit weights, scans of
state-space layers, and the loops over whole models with the rows of numbers that describe a model
to them.

Every array is C-contiguous. Kernels mutate nothing except a parameter named ``work``, run on
the calling thread, release the GIL, and give each output row by itself: cutting the rows into
chunks never changes a bit of the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]


class KernelSet(NamedTuple):
    """The kernels of one backend.

    Attributes
    ----------
    fwht
        ``(work f32|f64 (rows, p)) -> None``; ``p`` a power of two. Unnormalised Walsh-Hadamard
        transform (Sylvester order) along the last axis, in place.
    encode_e8p, decode_e8p
        ``(z f32 (N, 8)) -> u16 (N,)``: nearest of the 65,536 E8P points, and back. Which of
        several equally near points is returned is fixed but unspecified.
    encode_e81b, decode_e81b
        ``(z f32 (N, 8)) -> u8 (N,)``: nearest of the 256 points of the 1-bit E8 codebook.
    nearest_level
        ``(z f32 (rows, k), levels f32 (K,) ascending) -> u8 (rows, k)``; ties go to the lower
        index.
    pack_bits, unpack_bits
        ``(codes u8 (rows, n), bits) -> u8 (rows, ceil(n * bits / 8))``: a row is one
        little-endian bit string, padded with zero bits; ``(words, bits, n)`` undoes it.
    matvec_e8p
        ``(codes u16 (m, k), x f32 (8 * k,)) -> f32 (m,)``: decoded points times ``x``, no scale.
    matvec_e8p_rvq3, matvec_e8p_rvq4
        ``(codes u16 (m, k), residual u8|u16 (m, k), residual_scale, x) -> f32 (m,)``: the same
        with a second stage that is added divided by ``residual_scale``.
    decode_trellis
        ``(words u16 (a, ceil(n * rows / 256) * 16 * bits), bits, state_bits, rows, n) ->
        f32 (a * rows, n)``: bands of tiles of ``rows`` rows, see
        :mod:`lrc_kernels.trellis_code`.
    matvec_trellis
        ``(words, bits, state_bits, rows, x f32 (n,)) -> f32 (a * rows,)``: the same values
        times ``x``.
    matvec_levels
        ``(words u8 (m, nbytes), bits, levels f32, scales f32 (1|m, 1|groups), group_size,
        x f32 (n,)) -> f32 (m,)``: packed scalar codes; ``group_size`` 0 means the whole row.
    """

    fwht: Callable[[NDArray[Any]], None]
    encode_e8p: Callable[[F32], U16]
    decode_e8p: Callable[[U16], F32]
    encode_e81b: Callable[[F32], U8]
    decode_e81b: Callable[[U8], F32]
    nearest_level: Callable[[F32, F32], U8]
    pack_bits: Callable[[U8, int], U8]
    unpack_bits: Callable[[U8, int, int], U8]
    matvec_e8p: Callable[[U16, F32], F32]
    matvec_e8p_rvq3: Callable[[U16, U8, float, F32], F32]
    matvec_e8p_rvq4: Callable[[U16, U16, float, F32], F32]
    decode_trellis: Callable[[U16, int, int, int, int], F32]
    matvec_trellis: Callable[[U16, int, int, int, F32], F32]
    matvec_levels: Callable[[U8, int, F32, F32, int, F32], F32]
