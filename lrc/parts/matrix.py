"""One compressed matrix in memory: codes, scales, low-rank factors and rotation.

The matrix in the original basis is ``S_out M_m^T (Q + L R) M_n S_in`` where ``M`` is the
transform of :mod:`lrc_kernels.rotate` and ``S`` are diagonal signs (rotation ``"none"``: both
are the identity). ``Q = gain * scale * codeword``, ``L R = gain * left^T right``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.codebooks import CODEBOOKS, WIDE, get_codebook
from lrc.codebooks.base import Codebook, CodedRows, spread
from lrc.codebooks.levels import levels
from lrc.errors import FormatError
from lrc_kernels.backend import get_kernels
from lrc_kernels.rotate import hadamard_transform

F32 = NDArray[np.float32]
ROTATIONS = ("none", "hadamard")
#: What records say where there is no Q.
NO_CODEBOOK = "none"


def unpack_signs(signs: NDArray[np.uint8] | None, n: int) -> F32 | None:
    """Signs stored as bits (little-endian, 1 = negative) as f32 (n,) of +-1; None stays None."""
    if signs is None:
        return None
    bits = np.unpackbits(signs, count=n, bitorder="little")
    return np.float32(1) - np.float32(2) * bits.astype(np.float32)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise FormatError(message)


@dataclass(frozen=True)
class Factor:
    """One low-rank factor, components as rows.

    Attributes
    ----------
    bits
        2 to 8: packed Lloyd-Max codes; 16: float16 values.
    length
        Entries of a component: m for L^T, n for R.
    words
        u8 (r, ceil(length * bits / 8)), or float16 (r, length) when ``bits`` is 16.
    scales
        float16 (r,), what a component's levels are multiplied by; (0,) when ``bits`` is 16.
    """

    bits: int
    length: int
    words: NDArray[Any]
    scales: NDArray[np.float16]

    def __post_init__(self) -> None:
        plain = self.bits == 16
        _require(plain or 2 <= self.bits <= 8, f"factor bits {self.bits} are not 2 to 8 or 16")
        width = self.length if plain else -(-self.length * self.bits // 8)
        rank = self.words.shape[0]
        _require(
            self.words.shape == (rank, width)
            and self.words.dtype == (np.float16 if plain else np.uint8),
            f"words of a {self.bits}-bit factor of length {self.length} are "
            f"{self.words.dtype} {self.words.shape}; expected {width} a component",
        )
        _require(
            self.scales.shape == ((0,) if plain else (rank,)) and self.scales.dtype == np.float16,
            f"scales of a {self.bits}-bit factor of rank {rank} are "
            f"{self.scales.dtype} {self.scales.shape}",
        )

    @property
    def rank(self) -> int:
        """Number of components."""
        return int(self.words.shape[0])

    @property
    def stored_bits(self) -> int:
        """Bits of words and scales."""
        return 8 * int(self.words.nbytes + self.scales.nbytes)

    def to_dense(self) -> F32:
        """Return the components: f32 (r, length)."""
        if self.bits == 16:
            return self.words.astype(np.float32)
        codes = get_kernels().unpack_bits(self.words, self.bits, self.length)
        values = levels(WIDE, self.bits)[codes]
        values *= self.scales.astype(np.float32)[:, None]
        return values


@dataclass(frozen=True)
class PackedMatrix:
    """A compressed m x n matrix; arrays may be views of a memory-mapped file.

    Attributes
    ----------
    shape
        (m, n).
    codebook, bits, planes
        As in :mod:`lrc.codebooks`; codebook ``"none"`` of 0 bits means Q = 0.
    group_size
        Columns that share a scale; 0: the whole row.
    scales
        float16 (1 or m, 1 or ceil(n / group_size)), multiplied with the codewords.
    gain
        float32 value, multiplied with Q and with L R.
    rotation, signs_in, signs_out
        ``"hadamard"`` with sign bits u8 (ceil(n / 8),) and (ceil(m / 8),), or ``"none"`` and
        None.
    left, right
        L^T (r, m) and R (r, n), or None for rank 0.

    Raises
    ------
    FormatError
        When parts do not fit one another.
    """

    shape: tuple[int, int]
    codebook: str
    bits: int
    group_size: int
    planes: tuple[NDArray[Any], ...]
    scales: NDArray[np.float16]
    gain: float
    rotation: str
    signs_in: NDArray[np.uint8] | None
    signs_out: NDArray[np.uint8] | None
    left: Factor | None
    right: Factor | None

    def __post_init__(self) -> None:
        m, n = self.shape
        if self.coding is None:
            _require(not self.planes, "a matrix without codes has no planes")
        else:
            self.coding.check(self.planes, m, n)
        self._check_scales()
        _require(self.rotation in ROTATIONS, f"rotation {self.rotation!r} is not in {ROTATIONS}")
        for name, signs, size in (("in", self.signs_in, n), ("out", self.signs_out, m)):
            expected = None if self.rotation == "none" else (-(-size // 8),)
            given = None if signs is None else signs.shape
            _require(given == expected, f"signs_{name} have shape {given}, expected {expected}")
        ranks = [-1 if f is None else f.rank for f in (self.left, self.right)]
        _require(ranks[0] == ranks[1], f"left and right factors have ranks {ranks}")
        for name, factor, size in (("left", self.left, m), ("right", self.right, n)):
            length = size if factor is None else factor.length
            _require(length == size, f"{name} factor has length {length}, expected {size}")

    def _check_scales(self) -> None:
        m, n = self.shape
        groups = -(-n // self.group_size) if self.group_size else 1
        _require(
            self.coding is None
            or (self.scales.ndim == 2 and self.scales.shape[0] in (1, m)
                and self.scales.shape[1] == groups),
            f"scales have shape {self.scales.shape}, expected (1 or {m}, {groups})",
        )  # fmt: skip
        _require(
            groups == 1 or self.coding is None or CODEBOOKS[self.codebook].grouped,
            f"codebook {self.codebook} has no groups; group_size={self.group_size}",
        )

    @cached_property
    def coding(self) -> Codebook | None:
        """The codebook of Q; None where Q = 0."""
        no_codes = (self.codebook, self.bits) == (NO_CODEBOOK, 0)
        return None if no_codes else get_codebook(self.codebook, self.bits)

    @cached_property
    def coded(self) -> CodedRows:
        """Q as it is stored, for the methods of ``coding``."""
        band = 1 if self.coding is None else self.coding.band(self.shape[0])
        return CodedRows(self.planes, self.scales, self.gain, self.shape[1], self.group_size, band)

    def rows(self, index: slice | NDArray[np.integer]) -> F32:
        """Rows of Q with scales and gain, in the rotated basis: f32 (count, n), exact.

        Only those rows are decoded, or the bands that hold them.
        """
        m, n = self.shape
        ids = np.arange(m)[index]
        if self.coding is None:
            return np.zeros((len(ids), n), np.float32)
        values = self._values(ids, self.coding)
        scales = self.coded.wide[ids] if len(self.coded.wide) > 1 else self.coded.wide
        values *= spread(scales, self.group_size, n)
        return values

    def _values(self, ids: NDArray[np.integer], coding: Codebook) -> F32:
        """Rows without scales: f32 (count, n)."""
        n, band = self.shape[1], self.coded.band
        if band == 1:
            return coding.values([np.ascontiguousarray(plane[ids]) for plane in self.planes], n)
        values = np.empty((len(ids), n), np.float32)
        held = ids // band
        for b in np.unique(held):
            wanted = held == b
            decoded = coding.values([plane[b : b + 1] for plane in self.planes], n, band)
            values[wanted] = decoded[ids[wanted] % band]
        return values

    def quantized(self) -> F32:
        """Q with scales and gain, in the rotated basis: f32 (m, n)."""
        return self.rows(slice(0, self.shape[0]))

    def low_rank(self) -> tuple[F32, F32]:
        """L (m, r) with the gain, and R (r, n), f32, in the rotated basis."""
        if self.left is None or self.right is None:
            return np.zeros((self.shape[0], 0), np.float32), np.zeros(
                (0, self.shape[1]), np.float32
            )
        left = np.ascontiguousarray(self.left.to_dense().T)
        left *= np.float32(self.gain)
        return left, self.right.to_dense()

    def to_dense(self) -> F32:
        """Return the matrix in the original basis: f32 (m, n)."""
        m, n = self.shape
        W = self.quantized()
        if self.right is not None:
            L, R = self.low_rank()
            W += L @ R
        if self.rotation == "none":
            return W
        signs_in, signs_out = unpack_signs(self.signs_in, n), unpack_signs(self.signs_out, m)
        assert signs_in is not None
        assert signs_out is not None
        W = hadamard_transform(W, transpose=True)
        W *= signs_in
        W = np.ascontiguousarray(hadamard_transform(W.T, transpose=True).T)
        W *= signs_out[:, None]
        return W

    @property
    def rank(self) -> int:
        """Rank of L R."""
        return 0 if self.right is None else self.right.rank

    @property
    def stored_bits(self) -> int:
        """Every stored bit: planes, scales, signs, factors, and 32 for the gain."""
        scales = self.scales if self.planes else None
        arrays = (*self.planes, scales, self.signs_in, self.signs_out)
        total = 32 + 8 * sum(int(a.nbytes) for a in arrays if a is not None)
        return total + sum(f.stored_bits for f in (self.left, self.right) if f is not None)

    @property
    def bits_per_weight(self) -> float:
        """``stored_bits`` over m n."""
        return self.stored_bits / max(self.shape[0] * self.shape[1], 1)
