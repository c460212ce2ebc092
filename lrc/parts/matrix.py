"""One compressed matrix in memory: rotation, gain and parts.

The matrix in the original basis is ``S_out M_m^T gain (sum of parts) M_n S_in`` where ``M`` is the
transform of :mod:`lrc_kernels.rotate` and ``S`` are diagonal signs, or numbers in their place
(:mod:`lrc.parts.signs`). Of a side that is not rotated both are the identity: of both sides, or of
the outputs alone, so that rows decode one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import chunks
from lrc.formats.safetensors.writing import TensorSpec
from lrc.parts.base import F32, Part, added, require
from lrc.parts.signs import ROTATIONS, out_of_range, sign_specs, unpack_signs
from lrc_kernels.rotate import hadamard_transform

#: Rows that are decoded together to look at their values.
_CHECKED_ROWS = 4096


@dataclass(frozen=True)
class PackedMatrix:
    """A compressed m x n matrix; arrays may be views of a memory-mapped file.

    Attributes
    ----------
    shape
        (m, n).
    gain
        float32 value, multiplied with every part.
    rotation, signs_in, signs_out
        The name of a rotation in :mod:`lrc.parts.signs`, and for each side that it has sign bits u8
        (ceil(n / 8),) and (ceil(m / 8),), or numbers int8 in their place; else None.
    parts
        What is summed, without the gain; none: zero.

    Raises
    ------
    FormatError
        When parts do not fit one another.
    """

    shape: tuple[int, int]
    gain: float
    rotation: str
    signs_in: NDArray[Any] | None
    signs_out: NDArray[Any] | None
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        known = ", ".join(ROTATIONS)
        require(self.rotation in ROTATIONS, f"rotation {self.rotation!r} is none of {known}")
        specs = sign_specs(self.rotation, self.shape)
        for name in ("signs_in", "signs_out"):
            signs, expected = getattr(self, name), specs.get(name)
            given = None if signs is None else TensorSpec.of(signs)
            require(given == expected, f"{name} are {given}, expected {expected}")
        for part in self.parts:
            require(
                part.shape == self.shape,
                f"a part of kind {part.kind} has shape {part.shape}, the matrix {self.shape}",
            )

    @cached_property
    def terms(self) -> tuple[Part, ...]:
        """The parts times the gain: what they decode once is kept here."""
        return tuple(part.at(self.gain) for part in self.parts)

    def rows(self, index: slice | NDArray[np.integer]) -> F32:
        """Rows of the sum of the terms, in the rotated basis: f32 (count, n), exact.

        Only those rows are decoded, or the bands that hold them.
        """
        m, n = self.shape
        ids = np.arange(m)[index]
        return added((term.rows(ids) for term in self.terms), (len(ids), n))

    def original_rows(self, index: slice | NDArray[np.integer]) -> F32:
        """Rows f32 (count, n) in the original basis of the inputs."""
        W = self.rows(index)
        signs = unpack_signs(self.signs_in, self.shape[1])
        return W if signs is None else hadamard_transform(W, transpose=True) * signs

    def to_dense(self) -> F32:
        """Return the matrix in the original basis: f32 (m, n)."""
        m = self.shape[0]
        W = self.original_rows(slice(0, m))
        signs = unpack_signs(self.signs_out, m)
        if signs is None:
            return W
        W = np.ascontiguousarray(hadamard_transform(W.T, transpose=True).T)
        W *= signs[:, None]
        return W

    def faults(self) -> tuple[str, ...]:
        """Stored values that no writer writes, in words.

        Signs or numbers out of their ranges, those of parts, and rows that are not finite.
        """
        found = [fault for part in self.parts for fault in part.faults()]
        for name, size in (("signs_in", self.shape[1]), ("signs_out", self.shape[0])):
            if out_of_range(getattr(self, name), size):
                found.append(f"{name} are out of their range")
        if not np.isfinite(self.gain):
            found.append("the gain is not finite")
        if not found:
            with np.errstate(all="ignore"):
                parts = chunks(self.shape[0], _CHECKED_ROWS)
                if not all(np.isfinite(self.rows(part)).all() for part in parts):
                    found.append("a decoded weight is not finite")
        return tuple(found)

    @property
    def stored_bits(self) -> int:
        """Every stored bit: parts, signs, and 32 for the gain."""
        signs = sum(8 * int(s.nbytes) for s in (self.signs_in, self.signs_out) if s is not None)
        return 32 + signs + sum(part.stored_bits for part in self.parts)

    @property
    def bits_per_weight(self) -> float:
        """``stored_bits`` over m n."""
        return self.stored_bits / max(self.shape[0] * self.shape[1], 1)
