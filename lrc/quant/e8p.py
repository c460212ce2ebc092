"""Lattice codebooks: E8P at 2 bits, with a residual stage at 3 and 4 bits (QuIP#).

Source: Tseng et al. 2024, arXiv:2402.04396. A residual stage rounds what the first stage left,
times a fixed factor, to a second codebook; it is not a joint nearest-point search.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.codebooks.e8p import RESIDUAL_SCALE
from lrc.quant.base import F32, Codes, Quantizer
from lrc_kernels.backend import get_kernels


def _vectors(Z: F32) -> F32:
    """View ``Z`` (rows, 8 k) as (rows * k, 8)."""
    return np.ascontiguousarray(Z, np.float32).reshape(-1, 8)


def _grid(Z: F32) -> tuple[int, int]:
    """Shape of the codes of ``Z`` (rows, 8 k): (rows, k)."""
    return Z.shape[0], Z.shape[1] // 8


@dataclass(frozen=True)
class E8P:
    """The 65,536-point E8P codebook: 2 bits a weight, exact nearest point."""

    id: str = "e8p"
    bits: int = 2
    block_size: int = 8
    block_rows: int = 1
    input_scale: float = 1.03

    def encode(self, Z: F32) -> Codes:
        """Nearest points of each row's 8-vectors: (u16 (rows, k),)."""
        return (get_kernels().encode_e8p(_vectors(Z)).reshape(_grid(Z)),)

    def decode(self, codes: Codes) -> F32:
        """Points: f32 (rows, 8 k)."""
        rows, k = codes[0].shape
        return get_kernels().decode_e8p(codes[0].reshape(-1)).reshape(rows, 8 * k)

    def pack(self, codes: Codes) -> Codes:
        """Return the codes: they are stored as they are."""
        return codes

    def unpack(self, planes: Codes, n: int) -> Codes:
        """Return the planes: they are the codes."""
        return planes


@dataclass(frozen=True)
class _Residual:
    """E8P, then the residual times ``RESIDUAL_SCALE[bits]`` rounded to a second codebook."""

    id: str
    bits: int
    input_scale: float
    block_size: int = 8
    block_rows: int = 1

    def encode(self, Z: F32) -> Codes:
        """Codes of both stages: (u16 (rows, k), u8|u16 (rows, k))."""
        z = _vectors(Z)
        first = get_kernels().encode_e8p(z)
        rest = (z - get_kernels().decode_e8p(first)) * np.float32(RESIDUAL_SCALE[self.bits])
        second = self._encode_rest(rest)
        return first.reshape(_grid(Z)), second.reshape(_grid(Z))

    def decode(self, codes: Codes) -> F32:
        """Sum of both stages: f32 (rows, 8 k)."""
        rows, k = codes[0].shape
        values = get_kernels().decode_e8p(codes[0].reshape(-1))
        rest = self._decode_rest(codes[1].reshape(-1))
        return (values + rest / np.float32(RESIDUAL_SCALE[self.bits])).reshape(rows, 8 * k)

    def pack(self, codes: Codes) -> Codes:
        """Return the codes: they are stored as they are."""
        return codes

    def unpack(self, planes: Codes, n: int) -> Codes:
        """Return the planes: they are the codes."""
        return planes

    def _encode_rest(self, z: F32) -> NDArray[Any]:
        raise NotImplementedError

    def _decode_rest(self, codes: NDArray[Any]) -> F32:
        raise NotImplementedError


@dataclass(frozen=True)
class E8PResidual3(_Residual):
    """3 bits: E8P, then the 256-point E81B codebook."""

    id: str = "e8p-rvq3"
    bits: int = 3
    input_scale: float = 0.98

    def _encode_rest(self, z: F32) -> NDArray[Any]:
        return get_kernels().encode_e81b(z)

    def _decode_rest(self, codes: NDArray[Any]) -> F32:
        return get_kernels().decode_e81b(codes)


@dataclass(frozen=True)
class E8PResidual4(_Residual):
    """4 bits: E8P twice."""

    id: str = "e8p-rvq4"
    bits: int = 4
    input_scale: float = 0.91

    def _encode_rest(self, z: F32) -> NDArray[Any]:
        return get_kernels().encode_e8p(z)

    def _decode_rest(self, codes: NDArray[Any]) -> F32:
        return get_kernels().decode_e8p(codes)


_WIDTHS: dict[int, Callable[[], Quantizer]] = {2: E8P, 3: E8PResidual3, 4: E8PResidual4}


def quantizer(name: str, bits: int, rows: int) -> Quantizer:
    """The encoding half of ``name``, for any number of rows."""
    made: Quantizer = _WIDTHS[bits]()
    return made
