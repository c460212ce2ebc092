"""The contract of a codebook on the encoding side."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
Codes = tuple[NDArray[Any], ...]


class Quantizer(Protocol):
    """Rounds rows of weights to codewords; state-free, safe to share between threads.

    Attributes
    ----------
    id
        Codebook name, as in :data:`lrc.codebooks.CODEBOOKS`.
    bits
        Stored bits a weight, scales not counted.
    block_size
        Columns coded together: those of a lattice vector, or of a block with a scale of its own;
        1 where each weight has a code.
    block_rows
        Rows coded together: 1, but for trellises.
    input_scale
        Factor that brings unit-RMS Gaussian input to the codebook's best range.
    """

    @property
    def id(self) -> str:
        """Codebook name."""
        ...

    @property
    def bits(self) -> int:
        """Stored bits a weight."""
        ...

    @property
    def block_size(self) -> int:
        """Columns coded together."""
        ...

    @property
    def block_rows(self) -> int:
        """Rows coded together."""
        ...

    @property
    def input_scale(self) -> float:
        """Factor applied to unit-RMS input."""
        ...

    def encode(self, Z: F32) -> Codes:
        """Nearest codewords of ``Z`` f32 (rows, k * block_size): unpacked codes (rows, k, ...)."""
        ...

    def decode(self, codes: Codes) -> F32:
        """Unscaled values of unpacked codes: f32 (rows, k * block_size)."""
        ...

    def pack(self, codes: Codes) -> Codes:
        """Codes as the stored planes of :meth:`lrc.codebooks.base.Codebook.layout`."""
        ...

    def unpack(self, planes: Codes, n: int) -> Codes:
        """Undo :meth:`pack` for ``n`` columns (a multiple of ``block_size``, or ragged)."""
        ...
