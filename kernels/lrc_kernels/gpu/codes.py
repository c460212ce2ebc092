"""The contract's kernels on a CUDA device: arrays of the host in, arrays of the host out.

Products decode to float32 and leave the sums to cuBLAS.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc_kernels import lattice_tables as tables
from lrc_kernels import trellis_code
from lrc_kernels.gpu.device import compiled, cupy

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
U16 = NDArray[np.uint16]

_THREADS = 256


@cache
def _module() -> Any:
    return compiled("codes.cu")


@cache
def _points(name: str) -> Any:
    return cupy().asarray(tables.e8p_points() if name == "e8p" else tables.e81b_points())


def _launch(name: str, count: int, *arguments: Any) -> None:
    """One thread for each of ``count`` items; the kernel takes the count before its output."""
    if count == 0:
        return
    *given, out = arguments
    given = [np.int32(value) if isinstance(value, int) else value for value in given]
    blocks = -(-count // _THREADS)
    _module().get_function(name)((blocks,), (_THREADS,), (*given, np.int64(count), out))


def fwht(work: NDArray[Any]) -> None:
    """Replace each row of ``work`` f32|f64 (rows, p) by its unnormalised transform."""
    width = work.shape[-1]
    if work.ndim != 2 or width < 1 or width & (width - 1):
        raise ValueError(f"fwht needs (rows, power of two), not {work.shape}")
    if work.dtype not in (np.float32, np.float64) or not work.flags.c_contiguous:
        raise ValueError(f"fwht needs C-contiguous float32 or float64, not {work.dtype}")
    x = cupy().asarray(work)
    kernel = _module().get_function("butterfly_f32" if work.itemsize == 4 else "butterfly_f64")
    pairs = work.size // 2
    half = 1
    while half < width and pairs:
        kernel((-(-pairs // _THREADS),), (_THREADS,), (x, np.int32(half), np.int64(pairs)))
        half *= 2
    work[...] = x.get()


def _vectors(z: F32) -> Any:
    if z.ndim != 2 or z.shape[1] != 8:
        raise ValueError(f"lattice vectors have shape (N, 8), not {z.shape}")
    return cupy().asarray(z, np.float32, order="C")


def encode_e8p(z: F32) -> U16:
    """Nearest of the 65,536 points: u16 (N,)."""
    xp = cupy()
    codes = xp.empty(len(z), np.uint16)
    rows, triples = xp.asarray(tables.e8p_row_index()), xp.asarray(tables.wide_triples())
    _launch("encode_e8p", len(z), _vectors(z), rows, triples, codes)
    found: U16 = codes.get()
    return found


def decode_e8p(codes: U16) -> F32:
    """Points: f32 (N, 8)."""
    return _decoded("e8p", codes).get()  # type: ignore[no-any-return]


def encode_e81b(z: F32) -> U8:
    """Nearest of the 256 points: u8 (N,)."""
    codes = cupy().empty(len(z), np.uint8)
    _launch("encode_e81b", len(z), _vectors(z), codes)
    found: U8 = codes.get()
    return found


def decode_e81b(codes: U8) -> F32:
    """Points: f32 (N, 8)."""
    return _decoded("e81b", codes).get()  # type: ignore[no-any-return]


def _decoded(name: str, codes: NDArray[Any]) -> Any:
    return _points(name)[cupy().asarray(codes)]


def nearest_level(z: F32, levels: F32) -> U8:
    """Index of the nearest level, ties to the lower one: u8 (rows, k)."""
    if not 1 <= len(levels) <= 256:
        raise ValueError(f"a table has 1 to 256 levels, not {len(levels)}")
    wide = levels.astype(np.float64)
    midpoints = cupy().asarray((wide[:-1] + wide[1:]) * 0.5)
    codes = cupy().empty(z.shape, np.uint8)
    x = cupy().asarray(z, np.float32, order="C")
    _launch("nearest_level", z.size, x, midpoints, len(levels) - 1, codes)
    found: U8 = codes.get()
    return found


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= 8:
        raise ValueError(f"bits={bits} must be 1 to 8")


def pack_bits(codes: U8, bits: int) -> U8:
    """Rows as little-endian bit strings: u8 (rows, ceil(n * bits / 8))."""
    _check_bits(bits)
    rows, n = codes.shape
    size = (n * bits + 7) // 8
    words = cupy().empty((rows, size), np.uint8)
    given = cupy().asarray(codes, np.uint8, order="C")
    _launch("pack_bits", rows * size, given, bits, n, size, words)
    found: U8 = words.get()
    return found


def unpack_bits(words: U8, bits: int, n: int) -> U8:
    """Undo :func:`pack_bits`: u8 (rows, n)."""
    return _unpacked(words, bits, n).get()  # type: ignore[no-any-return]


def _unpacked(words: U8, bits: int, n: int) -> Any:
    _check_bits(bits)
    rows, size = words.shape
    if size * 8 < n * bits:
        raise ValueError(f"{size} bytes a row hold fewer than {n} codes of {bits} bits")
    codes = cupy().empty((rows, n), np.uint8)
    given = cupy().asarray(words, np.uint8, order="C")
    _launch("unpack_bits", rows * n, given, bits, n, size, codes)
    return codes


def matvec_e8p(codes: U16, x: F32) -> F32:
    """Return decoded points times ``x``: f32 (m,)."""
    return _points_times("e8p", codes, x).get()  # type: ignore[no-any-return]


def matvec_e8p_rvq3(codes: U16, residual: U8, residual_scale: float, x: F32) -> F32:
    """E8P plus scaled E81B, times ``x``: f32 (m,)."""
    rest = _points_times("e81b", residual, x) / np.float32(residual_scale)
    return (_points_times("e8p", codes, x) + rest).get()  # type: ignore[no-any-return]


def matvec_e8p_rvq4(codes: U16, residual: U16, residual_scale: float, x: F32) -> F32:
    """E8P plus scaled E8P, times ``x``: f32 (m,)."""
    rest = _points_times("e8p", residual, x) / np.float32(residual_scale)
    return (_points_times("e8p", codes, x) + rest).get()  # type: ignore[no-any-return]


def _points_times(name: str, codes: NDArray[Any], x: F32) -> Any:
    return _decoded(name, codes).reshape(len(codes), -1) @ cupy().asarray(x)


def decode_trellis(words: U16, bits: int, state_bits: int, rows: int, n: int) -> F32:
    """Values of the states: f32 (bands * rows, n)."""
    return _trellis(words, bits, state_bits, rows, n).get()  # type: ignore[no-any-return]


def matvec_trellis(words: U16, bits: int, state_bits: int, rows: int, x: F32) -> F32:
    """Return the decoded matrix times ``x``: f32 (bands * rows,)."""
    dense = _trellis(words, bits, state_bits, rows, len(x))
    return (dense @ cupy().asarray(x)).get()  # type: ignore[no-any-return]


def _trellis(words: U16, bits: int, state_bits: int, rows: int, n: int) -> Any:
    values = cupy().empty((len(words) * rows, n), np.float32)
    given = cupy().asarray(words, np.uint16, order="C")
    table = cupy().asarray(trellis_code.state_values(state_bits))
    size = words.shape[1]
    _launch("decode_trellis", values.size, given, table, bits, state_bits, rows, n, size, values)
    return values


def matvec_levels(words: U8, bits: int, levels: F32, scales: F32, group_size: int, x: F32) -> F32:
    """Return the decoded, scaled matrix times ``x``: f32 (m,)."""
    xp, n = cupy(), len(x)
    wide = xp.repeat(xp.asarray(scales), group_size or n, axis=1)[:, :n]
    dense = xp.asarray(levels)[_unpacked(words, bits, n)] * wide
    return (dense @ xp.asarray(x)).get()  # type: ignore[no-any-return]
