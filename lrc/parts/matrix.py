"""One compressed matrix in memory: codes, scales, low-rank factors and rotation.

The matrix in the original basis is ``S_out M_m^T (Q + L R) M_n S_in`` where ``M`` is the
transform of :mod:`lrc_kernels.rotate` and ``S`` are diagonal signs (rotation ``"none"``: both
are the identity). ``Q = gain * scale * codeword``, ``L R = gain * left^T right``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.codebooks.codec import SCALAR, band_rows, check_planes, decode_planes, levels
from lrc.errors import FormatError
from lrc_kernels.backend import get_kernels
from lrc_kernels.rotate import hadamard_transform

F32 = NDArray[np.float32]
ROTATIONS = ("none", "hadamard")


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
        values = levels("lloyd-max", self.bits)[codes]
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
        As in :mod:`lrc.codebooks.codec`; codebook ``"none"`` means Q = 0.
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
        check_planes(self.codebook, self.bits, self.planes, m, n)
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
            self.codebook == "none"
            or (self.scales.ndim == 2 and self.scales.shape[0] in (1, m)
                and self.scales.shape[1] == groups),
            f"scales have shape {self.scales.shape}, expected (1 or {m}, {groups})",
        )  # fmt: skip
        _require(
            self.codebook in (*SCALAR, "none") or groups == 1,
            f"codebook {self.codebook} has no groups; group_size={self.group_size}",
        )

    def rows(self, index: slice | NDArray[np.integer]) -> F32:
        """Rows of Q with scales and gain, in the rotated basis: f32 (count, n).

        Only those rows are decoded, or the bands of a trellis that hold them.
        """
        m, n = self.shape
        if self.codebook == "none":
            count = len(range(*index.indices(m))) if isinstance(index, slice) else len(index)
            return np.zeros((count, n), np.float32)
        values = self._values(index)
        scales = self.scales[index] if self.scales.shape[0] > 1 else self.scales
        wide = scales.astype(np.float32) * np.float32(self.gain)
        if wide.shape[1] > 1:
            wide = np.repeat(wide, self.group_size, axis=1)[:, :n]
        values *= wide
        return values

    def _values(self, index: slice | NDArray[np.integer]) -> F32:
        """Rows without scales: f32 (count, n)."""
        m, n = self.shape
        band = band_rows(self.codebook, m)
        if band == 1:
            planes = [np.ascontiguousarray(plane[index]) for plane in self.planes]
            return decode_planes(self.codebook, self.bits, planes, n)
        ids = np.arange(m)[index]
        values = np.empty((len(ids), n), np.float32)
        held = ids // band
        for b in np.unique(held):
            planes = [plane[b : b + 1] for plane in self.planes]
            wanted = held == b
            decoded = decode_planes(self.codebook, self.bits, planes, n, band)
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
