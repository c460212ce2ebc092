"""A packed linear layer with its codes decoded, whose other numbers may be real and may change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lrc.formats.stored import StoredMatrix
from lrc.nn.execution import PLAIN, Execution
from lrc.nn.linear import DenseLinear, Linear
from lrc.nn.packed import PackedLinear
from lrc.nn.stored import StoredLinear
from lrc.parts.base import Part, Shape, added
from lrc.parts.low_rank import LowRank
from lrc.parts.matrix import PackedMatrix
from lrc.parts.signs import unpack_signs
from lrc.refine.vjp import Array, rows_of
from lrc_kernels.rotate import hadamard_transform


@dataclass(frozen=True, eq=False)
class OpenedLinear:
    """``y = S_out M_mT gain (D Q + leftT C right) M_n S_in x + bias``.

    D is the diagonal of ``row_scales``, C that of ``component_scales``.

    Attributes
    ----------
    codes : (m, n) or None
        Q with its stored scales, without the gain; None where the matrix is low rank alone.
    gain : (1,)
    row_scales : (m,)
        What rows of Q are multiplied by beside them: ones as stored.
    left, right : (r, m) and (r, n), or None
        Low-rank factors, components as rows.
    signs_in, signs_out : (n,) and (m,), or None
        Real numbers, +1 or -1 until tuned; None: the matrix is not rotated.
    bias : (m,) or None
    component_scales : (r,) or None
        What components are multiplied by: ones as stored; None is ones, too.
    """

    ARRAYS: ClassVar[tuple[str, ...]] = (
        "gain", "row_scales", "left", "right", "signs_in", "signs_out", "bias", "component_scales",
    )  # fmt: skip

    codes: Array | None
    gain: Array
    row_scales: Array
    left: Array | None = None
    right: Array | None = None
    signs_in: Array | None = None
    signs_out: Array | None = None
    bias: Array | None = None
    component_scales: Array | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(m, n): outputs, inputs."""
        if self.codes is not None:
            m, n = self.codes.shape
            return m, n
        assert self.left is not None
        assert self.right is not None
        return self.left.shape[1], self.right.shape[1]

    def __call__(self, x: Array, execution: Execution = PLAIN) -> Array:
        """Map (..., n) to (..., m), in the dtype of x."""
        return self._finished(self.rotated(rows_of(x)), x)

    def apply_with(
        self, others: Sequence[Linear], x: Array, execution: Execution = PLAIN
    ) -> list[Array]:
        """Apply this layer, then ``others``, to one x; equal signs share the rotation."""
        z = self.rotated(rows_of(x))
        return [
            f._finished(z, x)
            if isinstance(f, OpenedLinear) and self.rotates_like(f)
            else f(x, execution)
            for f in (self, *others)
        ]

    def rotates_like(self, other: OpenedLinear) -> bool:
        """Whether both have the same signs at their inputs."""
        mine, theirs = self.signs_in, other.signs_in
        if mine is None or theirs is None:
            return mine is theirs
        return np.array_equal(mine, theirs)

    def _finished(self, z: Array, x: Array) -> Array:
        """The output for x (..., n), of its rotated rows."""
        m, _ = self.shape
        y = self.before_signs(self.weighed(z) * self.gain)
        if self.signs_out is not None:
            y *= self.signs_out
        if self.bias is not None:
            y += self.bias
        return y.astype(x.dtype, copy=False).reshape(*x.shape[:-1], m)

    def rotated(self, x: Array) -> Array:
        """Rows x (T, n) in the basis of the codes: ``M_n S_in x``."""
        return x if self.signs_in is None else hadamard_transform(x * self.signs_in)

    def rotated_back(self, dz: Array) -> Array:
        """``M_nT dz``."""
        return dz if self.signs_in is None else hadamard_transform(dz, transpose=True)

    def input_signed(self, x: Array) -> Array:
        """``S_in x``."""
        return x if self.signs_in is None else x * self.signs_in

    def weighed(self, z: Array) -> Array:
        """``D Q z + leftT C right z`` for rows z (T, n): (T, m), without the gain."""
        terms = []
        if self.codes is not None:
            terms.append((z @ self.codes.T) * self.row_scales)
        if self.left is not None and self.right is not None:
            terms.append(self.scaled(z @ self.right.T) @ self.left)
        return added(terms, (len(z), self.shape[0]))

    def scaled(self, components: Array) -> Array:
        """``C components`` for rows of components (T, r)."""
        return components if self.component_scales is None else components * self.component_scales

    def before_signs(self, u: Array) -> Array:
        """``M_mT u``."""
        return u if self.signs_out is None else hadamard_transform(u, transpose=True)

    def output_rotated(self, g: Array) -> Array:
        """``M_m S_out g``: the gradient before the rotation back."""
        return g if self.signs_out is None else hadamard_transform(g * self.signs_out)

    def mixed(self, y: Array) -> Array:
        """``M_m y``, fresh."""
        return y.copy() if self.signs_out is None else hadamard_transform(y)


def opened(linear: Linear) -> Linear:
    """A layer that the backward pass has a rule for: packed and stored ones decoded, once."""
    if isinstance(linear, PackedLinear):
        return opened_matrix(linear.matrix, linear.bias)
    if isinstance(linear, StoredLinear):
        matrix: StoredMatrix = linear.matrix
        return DenseLinear(matrix.rows(slice(None)), linear.bias)
    return linear


def opened_matrix(matrix: PackedMatrix, bias: Array | None = None) -> OpenedLinear:
    """The layer of a packed matrix."""
    m, n = matrix.shape
    factors = [part for part in matrix.parts if isinstance(part, LowRank)]
    others = [part for part in matrix.parts if not isinstance(part, LowRank)]
    left = np.concatenate([part.left.to_dense() for part in factors]) if factors else None
    right = np.concatenate([part.right.to_dense() for part in factors]) if factors else None
    return OpenedLinear(
        codes=None if factors and not others else _summed(others, (m, n)),
        gain=np.array([matrix.gain], np.float32),
        row_scales=np.ones(m, np.float32),
        left=left,
        right=right,
        signs_in=unpack_signs(matrix.signs_in, n),
        signs_out=unpack_signs(matrix.signs_out, m),
        bias=bias,
        component_scales=None if left is None else np.ones(len(left), np.float32),
    )


def _summed(parts: Sequence[Part], shape: Shape) -> Array:
    """The sum of parts as a matrix, without the gain."""
    return added((part.decoded(slice(0, shape[0])) for part in parts), shape)
