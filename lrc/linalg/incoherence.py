"""Randomized Hadamard rotation of a weight matrix and of its second moment.

W_r = M_m S_out W S_in M_n^T and H_r = M_n S_in H S_in M_n^T with random signs S and orthonormal
M: spreads outliers over all entries and leaves tr(W H W^T) unchanged.
Source: QuIP#, arXiv 2402.04396, section 3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import chunks
from lrc_kernels.rotate import hadamard_transform

#: Rows and columns of a large square matrix that are moved together.
_BLOCK = 512


def random_signs(n: int, seed: int) -> NDArray[np.float32]:
    """Signs +-1, float32 (n,), fixed by ``seed``."""
    bits = np.random.default_rng(seed).integers(0, 2, size=n)
    return (1 - 2 * bits).astype(np.float32)


def pack_signs(signs: NDArray[np.float32]) -> NDArray[np.uint8]:
    """One bit a sign, little-endian, 1 = negative."""
    return np.packbits(signs < 0, bitorder="little")


def rotate_columns(
    W: NDArray[np.floating], signs: NDArray[np.float32] | None
) -> NDArray[np.floating]:
    """W S M_n^T for W (m, n); W itself when ``signs`` is None."""
    if signs is None:
        return W
    return hadamard_transform(W * signs.astype(W.dtype))


def rotate_weight(
    W: NDArray[np.float32],
    signs_in: NDArray[np.float32] | None,
    signs_out: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    """M_m S_out W S_in M_n^T, float32 (m, n)."""
    rotated = rotate_columns(W, signs_in)
    rotated = rotate_columns(np.ascontiguousarray(rotated.T), signs_out).T
    return np.ascontiguousarray(rotated, dtype=np.float32)


def rotate_moment(H: NDArray[np.float64], signs: NDArray[np.float32] | None) -> NDArray[np.float64]:
    """M S H S M^T, symmetric float64 (n, n)."""
    if signs is None:
        return H
    work = H.copy()
    rotate_both(work, signs)
    symmetrise(work)
    return work


def rotate_both(work: NDArray[np.floating], signs: NDArray[np.float32] | None) -> None:
    """M S X S M^T in place for X = ``work`` (n, n): a gigabyte less at n = 11008."""
    if signs is None:
        return
    for _ in range(2):
        for rows in chunks(len(work), _BLOCK):
            work[rows] = rotate_columns(work[rows], signs)
        _transpose(work)


def _transpose(work: NDArray[np.floating]) -> None:
    parts = chunks(len(work), _BLOCK)
    for i, rows in enumerate(parts):
        for columns in parts[: i + 1]:
            upper = work[columns, rows].copy()
            work[columns, rows] = work[rows, columns].T
            work[rows, columns] = upper.T


def mirror_lower(work: NDArray[np.floating]) -> None:
    """Replace what is above the diagonal of ``work`` (n, n) by what is below it."""
    parts = chunks(len(work), _BLOCK)
    for i, rows in enumerate(parts):
        for columns in parts[:i]:
            work[columns, rows] = work[rows, columns].T
        corner = np.tril(work[rows, rows])
        work[rows, rows] = corner + np.tril(corner, -1).T


def symmetrise(work: NDArray[np.floating]) -> None:
    """Replace X = ``work`` (n, n) by (X + X^T) / 2, block by block."""
    parts = chunks(len(work), _BLOCK)
    for i, rows in enumerate(parts):
        for columns in parts[: i + 1]:
            mean = 0.5 * (work[rows, columns] + work[columns, rows].T)
            work[rows, columns] = mean
            work[columns, rows] = mean.T
