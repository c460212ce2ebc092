"""The decoding half of every codebook: what the stored planes of a matrix mean.

=============  ====  ==========================================  =============================
codebook       bits  planes of an m x n matrix                   a weight, unscaled
=============  ====  ==========================================  =============================
e8p            2     u16 (m, ceil(n/8))                          e8p point
e8p-rvq3       3     u16 (m, ceil(n/8)), u8 (m, ceil(n/8))       e8p point + e81b point / 2.04
e8p-rvq4       4     u16 (m, ceil(n/8)), u16 (m, ceil(n/8))      e8p point + e8p point / 3.75
uniform        2-8   u8 (m, ceil(n*bits/8)), packed row by row   c - (2^bits - 1) / 2
lloyd-max      2-8   u8 (m, ceil(n*bits/8)), packed row by row   levels("lloyd-max", bits)[c]
trellis8 ...   2-4   u16 (m/R, ceil(n/C) * 16 bits), tiles of    value of a state of 8 to 16 bits
trellis16            R rows and C columns, 16 dividing m         (the number in the name)
none           0     no planes                                   0
=============  ====  ==========================================  =============================

Lattice vectors run along a row, eight columns each; the last one may reach past ``n``, and
what lies there is ignored. The points themselves are defined in
:mod:`lrc_kernels.lattice_tables`. A row of a trellis plane is a band of R rows, tile after tile;
R, C and the tiles, of which the last may reach past ``n`` too, are those of
:mod:`lrc_kernels.trellis_code`. The residual scale of e8p-rvq3 is that of QuIP# (Tseng et al.
2024); for e8p-rvq4, 3.75 with input scale 0.91 has a Gaussian error of 0.0083, against 0.0097
for the published 3.45 with 1.03.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.errors import FormatError
from lrc_kernels.backend import get_kernels
from lrc_kernels.trellis_code import (
    MAX_STATE_BITS,
    MIN_STATE_BITS,
    SEGMENTS,
    TILE,
    TILE_ROWS,
    tile_rows,
)

F32 = NDArray[np.float32]

#: The residual of the first stage is multiplied by this before the second stage is rounded.
RESIDUAL_SCALE = {"e8p-rvq3": 2.04, "e8p-rvq4": 3.75}
LATTICE = ("e8p", "e8p-rvq3", "e8p-rvq4")
SCALAR = ("uniform", "lloyd-max")
#: Bits of a trellis state by codebook.
STATE_BITS = {f"trellis{bits}": bits for bits in range(MIN_STATE_BITS, MAX_STATE_BITS + 1)}
TRELLIS = tuple(STATE_BITS)


@cache
def levels(codebook: str, bits: int) -> F32:
    """Values of a scalar codebook: f32 (2**bits,), ascending, symmetric, read-only.

    Uniform levels have step 1. Lloyd-Max levels minimise the squared error of a unit Gaussian
    (Max 1960); up to 4 bits they are rounded to multiples of largest/127, so that an int8
    table holds them exactly, above to five decimals.

    Raises
    ------
    FormatError
        For a codebook that is not scalar, or bits outside 2 to 8.
    """
    if codebook not in SCALAR or not 2 <= bits <= 8:
        raise FormatError(
            f"no scalar codebook {codebook!r} of {bits} bits; known: {', '.join(SCALAR)}, 2 to 8"
        )
    count = 1 << bits
    if codebook == "uniform":
        table = np.arange(count) - (count - 1) / 2
    else:
        half = np.round(_lloyd_max_half(count // 2), 5)
        if bits <= 4:
            unit = half[-1] / 127
            half = np.round(half / unit) * unit
        table = np.concatenate([-half[::-1], half])
    result = table.astype(np.float32)
    result.setflags(write=False)
    return result


def _lloyd_max_half(count: int) -> NDArray[np.float64]:
    """Positive levels of the ``2 * count`` level Lloyd-Max quantizer of N(0, 1).

    Newton's method on "each level is the mean of its cell"; the start is Panter and Dite's
    asymptotic density, a Gaussian of variance 3.
    """
    erfc = np.vectorize(math.erfc, otypes=[np.float64])
    level = _normal_quantile((np.arange(count) + 0.5) / (2 * count) + 0.5) * math.sqrt(3)
    for _ in range(100):
        edges = np.concatenate([[0.0], (level[1:] + level[:-1]) / 2, [np.inf]])
        tail = erfc(edges / math.sqrt(2)) / 2
        density = np.exp(-(edges**2) / 2) / math.sqrt(2 * math.pi)
        mass = tail[:-1] - tail[1:]
        mean = (density[:-1] - density[1:]) / mass
        by_low = density[:-1] * (mean - edges[:-1]) / mass / 2
        by_high = np.zeros(count)
        by_high[:-1] = density[1:-1] * (edges[1:-1] - mean[:-1]) / mass[:-1] / 2
        by_low[0] = 0.0
        jacobian = np.diag(by_low + by_high - 1)
        jacobian += np.diag(by_low[1:], -1) + np.diag(by_high[:-1], 1)
        step = np.linalg.solve(jacobian, level - mean)
        level = level + step
        if np.abs(step).max() < 1e-12:
            break
    return level


def _normal_quantile(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quantiles of N(0, 1) by bisection; accuracy 1e-9."""
    low, high = np.full(probability.shape, -9.0), np.full(probability.shape, 9.0)
    erfc = np.vectorize(math.erfc, otypes=[np.float64])
    for _ in range(34):
        middle = (low + high) / 2
        below = erfc(-middle / math.sqrt(2)) / 2 < probability
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    quantile: NDArray[np.float64] = (low + high) / 2
    return quantile


def band_rows(codebook: str, m: int) -> int:
    """Rows of a matrix of ``m`` rows that one row of a plane holds: more than one in a trellis.

    Raises
    ------
    FormatError
        For a trellis and ``m`` that 16 does not divide.
    """
    if codebook not in TRELLIS:
        return 1
    rows = tile_rows(m)
    if rows == 0:
        raise FormatError(
            f"codebook {codebook} needs rows in multiples of {TILE_ROWS[-1]}, not {m}"
        )
    return rows


def plane_layout(
    codebook: str, bits: int, m: int, n: int
) -> tuple[tuple[np.dtype[Any], tuple[int, int]], ...]:
    """Dtype and shape of each plane of an ``m x n`` matrix.

    Raises
    ------
    FormatError
        For an unknown codebook, or bits or a number of rows that it does not have.
    """
    band = band_rows(codebook, m)
    return _layout(codebook, bits, m // band, n, band)


def _layout(
    codebook: str, bits: int, count: int, n: int, band: int
) -> tuple[tuple[np.dtype[Any], tuple[int, int]], ...]:
    """The same for planes of ``count`` rows that hold ``band`` rows of the matrix each."""
    u8, u16 = np.dtype(np.uint8), np.dtype(np.uint16)
    vectors = (count, -(-n // 8))
    lattice = {
        ("e8p", 2): ((u16, vectors),),
        ("e8p-rvq3", 3): ((u16, vectors), (u8, vectors)),
        ("e8p-rvq4", 4): ((u16, vectors), (u16, vectors)),
        ("none", 0): (),
    }
    if (codebook, bits) in lattice:
        return lattice[codebook, bits]
    if codebook in SCALAR and 2 <= bits <= 8:
        return ((u8, (count, -(-n * bits // 8))),)
    if codebook in TRELLIS and 2 <= bits <= 4:
        return ((u16, (count, -(-n * band // TILE) * SEGMENTS * bits)),)
    raise FormatError(
        f"no codebook {codebook!r} of {bits} bits; known: e8p (2), e8p-rvq3 (3), e8p-rvq4 (4), "
        f"uniform and lloyd-max (2 to 8), {TRELLIS[0]} to {TRELLIS[-1]} (2 to 4), none (0)"
    )


def check_planes(codebook: str, bits: int, planes: Sequence[NDArray[Any]], m: int, n: int) -> None:
    """Raise FormatError unless ``planes`` are what :func:`plane_layout` asks for."""
    _check(planes, plane_layout(codebook, bits, m, n), f"a {m} x {n} {codebook} matrix")


def _check(planes: Sequence[NDArray[Any]], expected: tuple[Any, ...], what: str) -> None:
    given = tuple((plane.dtype, plane.shape) for plane in planes)
    if given != expected:
        raise FormatError(
            f"planes of {what} must be "
            f"{[(str(d), s) for d, s in expected]}, not {[(str(d), s) for d, s in given]}"
        )


def decode_planes(
    codebook: str, bits: int, planes: Sequence[NDArray[Any]], n: int, band: int = 1
) -> F32:
    """Unscaled values of the stored rows: f32 (m, n).

    Rows of planes decode independently: a slice of them gives the matrix rows they hold.

    Parameters
    ----------
    codebook, bits
        As in the table of this module.
    planes
        Whole, or the same rows of each.
    n
        Columns.
    band
        Rows of the matrix that a row of a plane holds: `band_rows` of the whole matrix.

    Raises
    ------
    FormatError
        If the planes do not fit the codebook, or the codebook is ``"none"`` (no row count).
    """
    if not planes:
        raise FormatError("a matrix without codes (codebook 'none') has nothing to decode")
    count = planes[0].shape[0]
    what = f"{count * band} rows and {n} columns of a {codebook} matrix"
    _check(planes, _layout(codebook, bits, count, n, band), what)
    kernels = get_kernels()
    if codebook in SCALAR:
        return levels(codebook, bits)[kernels.unpack_bits(planes[0], bits, n)]
    if codebook in TRELLIS:
        words = np.ascontiguousarray(planes[0])
        return kernels.decode_trellis(words, bits, STATE_BITS[codebook], band, n)
    values = kernels.decode_e8p(planes[0].reshape(-1))
    if codebook == "e8p-rvq3":
        values += kernels.decode_e81b(planes[1].reshape(-1)) / np.float32(RESIDUAL_SCALE[codebook])
    elif codebook == "e8p-rvq4":
        values += kernels.decode_e8p(planes[1].reshape(-1)) / np.float32(RESIDUAL_SCALE[codebook])
    return np.ascontiguousarray(values.reshape(count, 8 * planes[0].shape[1])[:, :n])
