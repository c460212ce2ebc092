"""What the rest of the library may ask of a part of a compressed matrix.

A part is one summand of a matrix in its rotated basis. A kind of part is one file here with a
subclass of :class:`Part`, and a row in :data:`lrc.parts.PARTS`. A subclass has to say how it is
stored and what its rows are; what is faster than decoding rows and multiplying comes on top, and
what the engines must know, where they know it.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import row_tiles
from lrc.codebooks.base import EngineRow
from lrc.errors import FormatError
from lrc.formats.safetensors.writing import TensorSpec
from lrc.parts.fields import Fields

F32 = NDArray[np.float32]
Shape = tuple[int, int]
#: Fields of a part in ``lrc.json``, ``kind`` among them.
PartRecord = Mapping[str, Any]
#: Tensor to dtype and shape.
Specs = dict[str, TensorSpec]
Tensors = Mapping[str, NDArray[Any]]
#: Name within a part to the name in the whole directory, and what it must be there.
Borrowed = dict[str, tuple[str, TensorSpec]]
#: Calls a piece of work on every slice of rows, on one thread or on several.
Each = Callable[[Callable[[slice], object], Sequence[slice]], None]
#: Vectors that count as a few: what one gives must not depend on how many there are.
FEW = 16


@dataclass(frozen=True)
class Part(ABC):
    """One summand of a compressed m x n matrix; arrays may be views of a memory-mapped file.

    Attributes
    ----------
    gain
        Multiplies the part. It is the matrix's, stored once for all parts: see :meth:`at`.
    """

    #: As in records and in :data:`lrc.parts.PARTS`.
    kind: ClassVar[str]
    #: What a record has beside ``kind``.
    fields: ClassVar[Fields]

    gain: float = dataclasses.field(default=1.0, kw_only=True)

    # Storage

    @classmethod
    @abstractmethod
    def layout(cls, record: PartRecord, shape: Shape) -> Specs:
        """Dtypes and shapes of the tensors of a part, by name within the matrix.

        No two kinds have a name in common.

        Raises
        ------
        FormatError
            There is no such part of a matrix of this ``shape``.
        """

    @classmethod
    def borrowed(cls, record: PartRecord, shape: Shape) -> Borrowed:
        """Tensors that another matrix stores and counts; most parts have none."""
        return {}

    @classmethod
    @abstractmethod
    def read(cls, record: PartRecord, shape: Shape, tensors: Tensors) -> Part:
        """The part that ``tensors``, those of :meth:`layout` and :meth:`borrowed`, store."""

    @classmethod
    @abstractmethod
    def label(cls, record: PartRecord) -> str:
        """The part in a few words."""

    @classmethod
    def holds(cls, tensor: str) -> str:
        """What a tensor of :meth:`layout` holds, in a word or two, for tables of sizes."""
        del tensor
        return cls.kind.replace("_", " ")

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """What :meth:`layout` and :meth:`read` have to be told, ``kind`` included."""

    @abstractmethod
    def tensors(self) -> dict[str, NDArray[Any]]:
        """The tensors of :meth:`layout`."""

    @property
    def stored_bits(self) -> int:
        """Every bit of the tensors."""
        return 8 * sum(int(array.nbytes) for array in self.tensors().values())

    def notes(self) -> tuple[str, ...]:
        """What a reader should know of how it is stored."""
        return ()

    def faults(self) -> tuple[str, ...]:
        """Stored values that no writer writes, in words; none where all are in their ranges."""
        return ()

    # Values, all in the rotated basis and times the gain

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """(m, n)."""

    @abstractmethod
    def rows(self, ids: NDArray[np.integer]) -> F32:
        """Rows of the part, exact and fresh: f32 (len(ids), n). Only those are decoded."""

    def decoded(self, rows: slice) -> F32:
        """Adjacent rows, f32 (count, n): what :meth:`rows` gives, to rounding, but faster."""
        return self.rows(np.arange(self.shape[0])[rows])

    @property
    def tile(self) -> int:
        """:meth:`decoded` is best asked for multiples of so many rows."""
        return 16

    def apply(self, z: F32, each: Each, *, integers: bool) -> F32:
        """Products with rotated vectors z f32 (T, n): f32 (T, m), fresh.

        ``each`` shares tiles of rows among threads; ``integers`` allows that a single vector is
        rounded to 15 bits, and that sums of a few have an order of their own.
        """
        m = self.shape[0]
        y = np.empty((len(z), m), np.float32)

        def tile(rows: slice) -> None:
            np.matmul(z, self.decoded(rows).T, out=y[:, rows])

        each(tile, row_tiles(m, self.tile))
        return y

    def factored(self) -> tuple[F32, ...]:
        """Dense matrices, first to last, whose product the part is."""
        return (self.rows(np.arange(self.shape[0])),)

    def at(self, gain: float) -> Part:
        """The same part times ``gain``."""
        return dataclasses.replace(self, gain=gain)

    # Engines

    @classmethod
    def place(cls, record: PartRecord) -> str | None:
        """The place that the part takes in a matrix's row of the decode engine, which has one
        of each; None where the engine cannot read it.
        """  # noqa: D205
        return None

    def decode_row(self) -> EngineRow:
        """How the decode engine reads the part, where it has a :meth:`place`."""
        raise NotImplementedError

    def prompt_row(self) -> EngineRow | None:
        """Further fields for the prompt engine; None where that cannot read the part."""
        return None


def added(summands: Iterable[F32], shape: Shape) -> F32:
    """The sum of fresh arrays in their order, in the place of the first; zeros where none is."""
    total: F32 | None = None
    for summand in summands:
        total = summand if total is None else np.add(total, summand, out=total)
    return np.zeros(shape, np.float32) if total is None else total


def apart(product: Callable[[F32], Any], z: F32, *, few: bool) -> F32:
    """Products with z (T, n) by BLAS; with ``few``, those of a few vectors one by one.

    BLAS adds in another order for another number of vectors, on some processors.
    """
    if few and 1 < len(z) <= FEW:
        return np.concatenate([product(x[None]) for x in z])
    y: F32 = product(z)
    return y


def require(condition: bool, message: str) -> None:
    """Raise `FormatError` with ``message`` unless ``condition`` holds."""
    if not condition:
        raise FormatError(message)
