"""E81B, the 1-bit E8 codebook: exact nearest points and decoding.

Four candidates are enough: the origin; ``+-e_i +-e_j`` at the two largest ``|z|``; ``(+-1/2)^8``
with the signs of ``z``, a wrong parity repaired at the smallest ``|z|``; ``+-2 e_i`` at the
largest ``|z|`` whose vector is in the codebook. Codes are laid out in
:mod:`lrc_kernels.lattice_tables`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc_kernels import lattice_tables as tables
from lrc_kernels._jit import njit

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


@njit()
def _encode_e81b(z: F32, codes: U8) -> None:
    a = np.empty(8, np.float32)
    for n in range(z.shape[0]):
        total = np.float32(0)
        signs = 0
        odd = 0
        first, second, last = 0, 0, 0
        for i in range(8):
            y = z[n, i]
            if y < 0:
                signs |= 1 << i
                odd ^= 1
                y = -y
            a[i] = y
            total += y
            if i == 0:
                continue
            if y > a[first]:
                second = first
                first = i
            elif second == first or y > a[second]:
                second = i
            if y < a[last]:
                last = i
        best = np.float32(0)
        code = 0
        new = np.float32(2) * (a[first] + a[second]) - np.float32(2)
        if new > best:
            best = new
            i, j = min(first, second), max(first, second)
            pair = i * (15 - i) // 2 + j - i - 1
            code = 1 + 4 * pair + 2 * (signs >> i & 1) + (signs >> j & 1)
        new = total - np.float32(2)
        if odd:
            new -= np.float32(2) * a[last]
        if new > best:
            best = new
            code = 113 + ((signs ^ (odd << last)) >> 1)
        place = first
        if place == 7 and signs >> 7 & 1:
            place = second
        new = np.float32(4) * a[place] - np.float32(4)
        if new > best:
            code = 241 + 2 * place + (signs >> place & 1)
        codes[n] = code


@njit()
def _decode_points(codes: U8, points: F32, out: F32) -> None:
    for n in range(codes.shape[0]):
        for i in range(8):
            out[n, i] = points[codes[n], i]


def encode_e81b(z: F32) -> U8:
    """Nearest E81B point of each row of ``z`` f32 (N, 8): codes u8 (N,)."""
    if z.ndim != 2 or z.shape[1] != 8:
        raise ValueError(f"lattice vectors have shape (N, 8), not {z.shape}")
    z = np.ascontiguousarray(z, np.float32)
    codes = np.empty(z.shape[0], np.uint8)
    _encode_e81b(z, codes)
    return codes


def decode_e81b(codes: U8) -> F32:
    """Points of ``codes`` u8 (N,): f32 (N, 8)."""
    out = np.empty((codes.shape[0], 8), np.float32)
    _decode_points(np.ascontiguousarray(codes, np.uint8), tables.e81b_points(), out)
    return out
