"""The decoding half of a codebook: what the rest of the library may ask it.

A codebook is one file here with a subclass of :class:`Codebook`, one file of the same name in
:mod:`lrc.quant` that encodes, and a row in :data:`lrc.codebooks.CODEBOOKS`. A subclass has to
give ``layout`` and ``values``; what is faster than decoding and multiplying comes on top.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrc.errors import FormatError

if TYPE_CHECKING:
    from lrc_kernels.cpu.dot.matvec_i8 import Activations

F32 = NDArray[np.float32]
Planes = Sequence[NDArray[Any]]
#: Dtype and shape of each plane.
PlaneLayout = tuple[tuple[np.dtype[Any], tuple[int, int]], ...]


@dataclass(frozen=True)
class CodedRows:
    """Some rows of Q as they are stored: Q = gain * scale * codeword.

    Attributes
    ----------
    planes
        Rows of the planes that hold these rows of the matrix.
    scales
        float16 (1 or rows, 1 or groups).
    gain
        Multiplies everything.
    columns
        n.
    group_size
        Columns that share a scale; 0: the whole row.
    band
        Rows of the matrix that one row of a plane holds.
    """

    planes: tuple[NDArray[Any], ...]
    scales: NDArray[np.float16]
    gain: float
    columns: int
    group_size: int = 0
    band: int = 1

    @property
    def count(self) -> int:
        """Rows of the matrix."""
        return int(self.planes[0].shape[0]) * self.band

    @cached_property
    def wide(self) -> F32:
        """Scales times gain: f32 of the shape of ``scales``."""
        return self.scales.astype(np.float32) * np.float32(self.gain)

    def rows_of_planes(self, bands: slice) -> CodedRows:
        """The rows that the planes' rows ``bands``, of step 1, hold."""
        start, stop, _ = bands.indices(self.planes[0].shape[0])
        planes = tuple(np.ascontiguousarray(plane[start:stop]) for plane in self.planes)
        own = slice(self.band * start, self.band * stop)
        cut = replace(self, planes=planes, scales=self._own(self.scales, own))
        cut.__dict__["wide"] = self._own(self.wide, own)
        return cut

    def _own(self, scales: NDArray[Any], rows: slice) -> NDArray[Any]:
        return scales[rows] if scales.shape[0] > 1 else scales


class EngineRow(NamedTuple):
    """Fields of a matrix's row in the decode engine's tables, by the constants of ``product``.

    An array stands for its address; one that is read-only may be shared by matrices.
    """

    integers: Mapping[int, int | NDArray[Any]]
    floats: Mapping[int, float]


@dataclass(frozen=True)
class Codebook(ABC):
    """What stored planes of codes mean, at a width.

    Attributes
    ----------
    name, bits
        As in records and specs; ``bits`` are those of a weight, scales not counted.
    """

    #: Whether the decode engine reads its codes: then :meth:`engine_row` says how.
    compiled: ClassVar[bool] = False
    #: What the prompt engine's integers are multiples of; None where it does not know the codes.
    prompt_unit: ClassVar[float | None] = None
    #: Whether :meth:`matmul_few` is faster than decoding rows for BLAS.
    multiplies_few: ClassVar[bool] = False
    #: Whether weights are coded at their own size: then a matrix has no gain, and no scale but 1.
    absolute: ClassVar[bool] = False

    name: str
    bits: int

    @property
    def step(self) -> float | None:
        """What neighbours among the unscaled values differ by, where all do by the same."""
        return None

    def stray(self, planes: Planes, n: int) -> bool:
        """Whether bits are set that are no code's: those that pad rows of ``n`` columns."""
        return False

    @property
    def scale_bits(self) -> float:
        """Bits a weight of scales that lie among the planes, besides ``bits``."""
        return 0.0

    @abstractmethod
    def layout(self, m: int, n: int) -> PlaneLayout:
        """Dtype and shape of each plane of an ``m x n`` matrix.

        Raises
        ------
        FormatError
            Where the codebook does not fit.
        """

    @abstractmethod
    def values(self, planes: Planes, n: int, band: int = 1) -> F32:
        """Unscaled values of whole rows of planes: f32 (rows * band, n), exact.

        Rows of planes decode independently: a slice of them gives the matrix rows they hold.
        """

    def misfit(self, m: int) -> str | None:
        """Why a matrix of ``m`` rows cannot have this codebook; None where it can."""
        return None

    def waste(self, m: int, n: int) -> str | None:
        """Why an m x n matrix would take many more bits than the codebook's; None where not."""
        return None

    def padding(self, n: int) -> int:
        """Columns past ``n`` that are coded, too."""
        return 0

    def band(self, m: int) -> int:
        """Rows of a matrix of ``m`` rows that one row of a plane holds."""
        return 1

    def check(self, planes: Planes, m: int, n: int) -> None:
        """Refuse planes that are not what :meth:`layout` asks for.

        Raises
        ------
        FormatError
            With both layouts.
        """
        expected = self.layout(m, n)
        given = tuple((plane.dtype, plane.shape) for plane in planes)
        if given != expected:
            raise FormatError(
                f"planes of a {m} x {n} {self.name} matrix must be "
                f"{[(str(d), s) for d, s in expected]}, not {[(str(d), s) for d, s in given]}"
            )

    def rows(self, coded: CodedRows) -> F32:
        """Rows of Q with scales and gain, f32 (count, n), by the fastest way there is."""
        values = self.values(coded.planes, coded.columns, coded.band)
        values *= spread(coded.wide, coded.group_size, coded.columns)
        return values

    def matvec(self, coded: CodedRows, x: F32) -> F32:
        """Q times x f32 (n,): f32 (count,)."""
        y: F32 = self.rows(coded) @ x
        return y

    def takes_integers(self, coded: CodedRows) -> bool:
        """Whether :meth:`matvec_integers` knows such rows."""
        return False

    def matvec_integers(self, coded: CodedRows, x: Activations, out: F32) -> None:
        """Q times a vector of integer activations, written to ``out`` f32 (count,)."""
        raise NotImplementedError

    def matmul_few(self, coded: CodedRows, x: F32, out: F32) -> None:
        """Q times a few vectors f32 (T, n), written to ``out`` (T, count), whose rows lie apart.

        What comes of a vector does not depend on the others.
        """
        raise NotImplementedError

    def engine_row(self, coded: CodedRows) -> EngineRow:
        """How the decode engine reads such rows, where it is ``compiled``."""
        raise NotImplementedError


def spread(scales: F32, group_size: int, n: int) -> F32:
    """One scale a weight, or one a row where that is all: f32 (rows, 1 or n)."""
    if scales.shape[1] == 1:
        return scales
    return np.repeat(scales, group_size, axis=1)[:, :n]


def stray_bits(words: NDArray[np.uint8], used: int) -> bool:
    """Whether bits are set past the first ``used`` of each row of packed words u8 (..., width).

    Examples
    --------
    >>> stray_bits(np.array([[255, 1]], np.uint8), 9), stray_bits(np.array([[0, 4]], np.uint8), 9)
    (False, True)
    """
    return used % 8 > 0 and bool((words[..., -1] >> used % 8).any())


def row_scales(coded: CodedRows) -> dict[int, int | NDArray[Any]]:
    """Fields of an :class:`EngineRow` for one scale a matrix or a row."""
    from lrc_kernels.cpu.dot import product

    return {product.SCALES: coded.wide, product.SCALE_STEP: 4 if len(coded.wide) > 1 else 0}
