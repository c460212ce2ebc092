"""Every kernel once more, in the plainest NumPy: the oracle of the tests.

Nearest points are found by exhaustive search in float64 over all points (ties: lowest code),
so these are slow; products decode everything and use ``@`` in float64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc_kernels import lattice_tables as tables
from lrc_kernels import trellis_code
from lrc_kernels.contract import F32, U8, U16, KernelSet

_CHUNK = 256


def fwht(work: NDArray[Any]) -> None:
    """Multiply by Sylvester's matrix, built whole; the result replaces ``work``."""
    sylvester = np.ones((1, 1))
    while sylvester.shape[0] < work.shape[1]:
        sylvester = np.kron(sylvester, np.array([[1, 1], [1, -1]]))
    work[...] = work.astype(np.float64) @ sylvester


def nearest_point(z: NDArray[Any], points: F32) -> NDArray[np.int64]:
    """Index of the nearest row of ``points`` for each row of ``z``: i64 (N,)."""
    wide = points.astype(np.float64)
    norms = np.einsum("ij,ij->i", wide, wide)
    found = np.empty(z.shape[0], np.int64)
    for start in range(0, z.shape[0], _CHUNK):
        part = z[start : start + _CHUNK].astype(np.float64)
        found[start : start + _CHUNK] = np.argmin(norms - 2 * part @ wide.T, axis=1)
    return found


def encode_e8p(z: F32) -> U16:
    """Nearest of the 65,536 points: u16 (N,)."""
    return nearest_point(z, tables.e8p_points()).astype(np.uint16)


def decode_e8p(codes: U16) -> F32:
    """Points: f32 (N, 8)."""
    return tables.e8p_points()[codes]


def encode_e81b(z: F32) -> U8:
    """Nearest of the 256 points: u8 (N,)."""
    return nearest_point(z, tables.e81b_points()).astype(np.uint8)


def decode_e81b(codes: U8) -> F32:
    """Points: f32 (N, 8)."""
    return tables.e81b_points()[codes]


def nearest_level(z: F32, levels: F32) -> U8:
    """Index of the smallest distance, the first of equal ones: u8 (rows, k)."""
    wide = levels.astype(np.float64)
    distance = np.abs(z.astype(np.float64)[..., None] - wide)
    codes: U8 = np.argmin(distance, axis=-1).astype(np.uint8)
    return codes


def pack_bits(codes: U8, bits: int) -> U8:
    """Rows as little-endian bit strings: u8 (rows, ceil(n * bits / 8))."""
    each = codes[:, :, None] >> np.arange(bits, dtype=np.uint8) & 1
    words: U8 = np.packbits(
        each.reshape(codes.shape[0], codes.shape[1] * bits), axis=1, bitorder="little"
    )
    return words


def unpack_bits(words: U8, bits: int, n: int) -> U8:
    """Undo :func:`pack_bits`: u8 (rows, n)."""
    each = np.unpackbits(words, axis=1, count=n * bits, bitorder="little")
    weights = 1 << np.arange(bits)
    return (each.reshape(words.shape[0], n, bits) @ weights).astype(np.uint8)


def _points_times(codes: NDArray[Any], points: F32, x: F32) -> NDArray[np.float64]:
    dense = points[codes].reshape(codes.shape[0], -1).astype(np.float64)
    product: NDArray[np.float64] = dense @ x.astype(np.float64)
    return product


def matvec_e8p(codes: U16, x: F32) -> F32:
    """Return decoded points times ``x``: f32 (m,)."""
    return _points_times(codes, tables.e8p_points(), x).astype(np.float32)


def matvec_e8p_rvq3(codes: U16, residual: U8, residual_scale: float, x: F32) -> F32:
    """E8P plus scaled E81B, times ``x``: f32 (m,)."""
    rest = _points_times(residual, tables.e81b_points(), x) / residual_scale
    return (_points_times(codes, tables.e8p_points(), x) + rest).astype(np.float32)


def matvec_e8p_rvq4(codes: U16, residual: U16, residual_scale: float, x: F32) -> F32:
    """E8P plus scaled E8P, times ``x``: f32 (m,)."""
    rest = _points_times(residual, tables.e8p_points(), x) / residual_scale
    return (_points_times(codes, tables.e8p_points(), x) + rest).astype(np.float32)


def decode_trellis(words: U16, bits: int, state_bits: int, rows: int, n: int) -> F32:
    """Values of the states: f32 (bands * rows, n)."""
    tiles = words.reshape(-1, trellis_code.SEGMENTS * bits)
    states = trellis_code.unpack_states(tiles, bits, state_bits)
    values = trellis_code.state_values(state_bits)[states]
    by_band = values.reshape(words.shape[0], -1, trellis_code.TILE)
    return np.ascontiguousarray(trellis_code.tiles_to_rows(by_band, rows)[:, :n], np.float32)


def matvec_trellis(words: U16, bits: int, state_bits: int, rows: int, x: F32) -> F32:
    """Return the decoded matrix times ``x``: f32 (bands * rows,)."""
    dense = decode_trellis(words, bits, state_bits, rows, x.shape[0]).astype(np.float64)
    return (dense @ x.astype(np.float64)).astype(np.float32)


def matvec_levels(words: U8, bits: int, levels: F32, scales: F32, group_size: int, x: F32) -> F32:
    """Return the decoded, scaled matrix times ``x``: f32 (m,)."""
    n = x.shape[0]
    wide = np.repeat(scales.astype(np.float64), group_size or n, axis=1)[:, :n]
    dense = levels.astype(np.float64)[unpack_bits(words, bits, n)] * wide
    return (dense @ x.astype(np.float64)).astype(np.float32)


KERNELS = KernelSet(
    fwht=fwht,
    encode_e8p=encode_e8p,
    decode_e8p=decode_e8p,
    encode_e81b=encode_e81b,
    decode_e81b=decode_e81b,
    nearest_level=nearest_level,
    pack_bits=pack_bits,
    unpack_bits=unpack_bits,
    matvec_e8p=matvec_e8p,
    matvec_e8p_rvq3=matvec_e8p_rvq3,
    matvec_e8p_rvq4=matvec_e8p_rvq4,
    decode_trellis=decode_trellis,
    matvec_trellis=matvec_trellis,
    matvec_levels=matvec_levels,
)
