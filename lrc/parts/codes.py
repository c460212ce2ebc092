"""Q: codes of a codebook times scales.

A record has ``codebook``, ``bits``, ``group_size`` (columns that share a scale; 0: the whole row)
and ``row_scales`` (whether rows have scales of their own).

============== ============ =================== ===========================================
tensor         dtype        shape               meaning
============== ============ =================== ===========================================
codes.0, .1    U16, U8      see codebooks/      planes of the codebook
scales         F16          (1|m, groups)       decode-side scales; a weight is scale value
============== ============ =================== ===========================================
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import chunks
from lrc.codebooks import CODEBOOKS, get_codebook
from lrc.codebooks.base import Codebook, CodedRows, EngineRow, spread
from lrc.formats.safetensors.writing import TensorSpec
from lrc.parts.base import F32, FEW, Each, Part, PartRecord, Shape, Specs, Tensors, require
from lrc.parts.fields import FLAG, NATURAL, TEXT, Fields

_PLANES = {np.dtype(np.uint8): "U8", np.dtype(np.uint16): "U16"}
#: Rows of one piece of work on integers, whole bands of every codebook.
_TILE_ROWS = 4096


def codes_record(codebook: str, bits: int, group_size: int, *, row_scales: bool) -> dict[str, Any]:
    """The record of codes that need not exist yet."""
    return {
        "kind": Codes.kind,
        "codebook": codebook,
        "bits": bits,
        "group_size": group_size,
        "row_scales": row_scales,
    }


@dataclass(frozen=True)
class Codes(Part):
    """Q = gain * scale * codeword.

    Attributes
    ----------
    size
        (m, n).
    codebook, bits, planes
        As in :mod:`lrc.codebooks`.
    group_size
        Columns that share a scale; 0: the whole row.
    scales
        float16 (1 or m, 1 or ceil(n / group_size)), multiplied with the codewords.

    Raises
    ------
    FormatError
        When planes or scales do not fit.
    """

    kind: ClassVar[str] = "codes"
    fields: ClassVar[Fields] = {
        "codebook": TEXT,
        "bits": NATURAL,
        "group_size": NATURAL,
        "row_scales": FLAG,
    }

    size: Shape
    codebook: str
    bits: int
    group_size: int
    planes: tuple[NDArray[Any], ...]
    scales: NDArray[np.float16]

    def __post_init__(self) -> None:
        m, n = self.size
        self.coding.check(self.planes, m, n)
        groups = _groups(n, self.group_size)
        require(
            self.scales.ndim == 2 and self.scales.shape[0] in (1, m)
            and self.scales.shape[1] == groups,
            f"scales have shape {self.scales.shape}, expected (1 or {m}, {groups})",
        )  # fmt: skip
        require(
            groups == 1 or CODEBOOKS[self.codebook].grouped,
            f"codebook {self.codebook} has no groups; group_size={self.group_size}",
        )

    # Storage

    @classmethod
    def layout(cls, record: PartRecord, shape: Shape) -> Specs:
        """The planes of the codebook, and scales."""
        m, n = shape
        planes = get_codebook(record["codebook"], record["bits"]).layout(m, n)
        specs = {
            f"codes.{i}": TensorSpec(_PLANES[dtype], plane)
            for i, (dtype, plane) in enumerate(planes)
        }
        rows = m if record["row_scales"] else 1
        return specs | {"scales": TensorSpec("F16", (rows, _groups(n, record["group_size"])))}

    @classmethod
    def read(cls, record: PartRecord, shape: Shape, tensors: Tensors) -> Codes:
        """Codes on the stored planes."""
        return cls(
            size=shape,
            codebook=record["codebook"],
            bits=record["bits"],
            group_size=record["group_size"],
            planes=tuple(tensors[f"codes.{i}"] for i in range(len(tensors) - 1)),
            scales=tensors["scales"],
        )

    @classmethod
    def label(cls, record: PartRecord) -> str:
        """Codebook and bits."""
        return f"{record['codebook']} {record['bits']}"

    @classmethod
    def holds(cls, tensor: str) -> str:
        """Codes, or scales."""
        return "scales" if tensor == "scales" else "codes"

    def record(self) -> dict[str, Any]:
        """Codebook, bits, groups."""
        by_row = len(self.scales) > 1
        return codes_record(self.codebook, self.bits, self.group_size, row_scales=by_row)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Planes and scales."""
        planes = {f"codes.{i}": plane for i, plane in enumerate(self.planes)}
        return planes | {"scales": self.scales}

    def notes(self) -> tuple[str, ...]:
        """Columns that are coded past the last."""
        n = self.size[1]
        padding = self.coding.padding(n)
        told = f"{n} columns padded to {n + padding} for codebook {self.codebook}"
        return (told,) if padding else ()

    def faults(self) -> tuple[str, ...]:
        """Bits beside the codes, and scales that are not finite."""
        stray = (
            ("bits are set beside its codes",)
            if self.coding.stray(self.planes, self.size[1])
            else ()
        )
        finite = () if np.isfinite(self.scales).all() else ("a scale is not finite",)
        return stray + finite

    # Values

    @property
    def shape(self) -> Shape:
        """(m, n)."""
        return self.size

    @cached_property
    def coding(self) -> Codebook:
        """The codebook."""
        return get_codebook(self.codebook, self.bits)

    @cached_property
    def coded(self) -> CodedRows:
        """All rows, for the methods of ``coding``."""
        m, n = self.size
        band = self.coding.band(m)
        return CodedRows(self.planes, self.scales, self.gain, n, self.group_size, band)

    def rows(self, ids: NDArray[np.integer]) -> F32:
        """Rows of Q; of bands, those that hold them are decoded."""
        values = self._values(ids)
        scales = self.coded.wide[ids] if len(self.coded.wide) > 1 else self.coded.wide
        values *= spread(scales, self.group_size, self.size[1])
        return values

    def _values(self, ids: NDArray[np.integer]) -> F32:
        """Rows without scales: f32 (count, n)."""
        coding, n, band = self.coding, self.size[1], self.coded.band
        if band == 1:
            return coding.values([np.ascontiguousarray(plane[ids]) for plane in self.planes], n)
        values = np.empty((len(ids), n), np.float32)
        bands = ids // band
        for b in np.unique(bands):
            wanted = bands == b
            decoded = coding.values([plane[b : b + 1] for plane in self.planes], n, band)
            values[wanted] = decoded[ids[wanted] % band]
        return values

    def decoded(self, rows: slice) -> F32:
        """Whole bands by the codebook's fastest way, cut where ``rows`` begin or end."""
        start, stop, _ = rows.indices(self.size[0])
        band = self.coded.band
        first = start // band
        found = self.coding.rows(self.coded.rows_of_planes(slice(first, -(-stop // band))))
        return found[start - band * first : stop - band * first]

    @property
    def tile(self) -> int:
        """Whole bands."""
        return max(self.coded.band, 16)

    def apply(self, z: F32, each: Each, *, integers: bool) -> F32:
        """One vector, or a few, are multiplied from the codes, several by tiles of decoded rows."""
        if integers and 1 < len(z) <= FEW and self.coding.multiplies_few:
            return self._few(z, each)
        if len(z) != 1:
            return super().apply(z, each, integers=integers)
        if integers and self.coding.takes_integers(self.coded):
            return self._integers(z[0], each)[None]
        return self.coding.matvec(self.coded, z[0])[None]

    def _few(self, z: F32, each: Each) -> F32:
        """Q times a few vectors f32 (T, n)."""
        coding, coded, y = self.coding, self.coded, np.empty((len(z), self.size[0]), np.float32)
        x = np.ascontiguousarray(z)

        def tile(rows: slice) -> None:
            bands = slice(rows.start // coded.band, rows.stop // coded.band)
            coding.matmul_few(coded.rows_of_planes(bands), x, y[:, rows])

        each(tile, chunks(coded.count, _TILE_ROWS))
        return y

    def _integers(self, x: F32, each: Each) -> F32:
        """Q times one vector f32 (n,) on 15-bit activations: for heads, whose rows are many."""
        from lrc_kernels.cpu.dot import matvec_i8

        coding, coded = self.coding, self.coded
        act, y = matvec_i8.quantize(x), np.empty(coded.count, np.float32)

        def tile(rows: slice) -> None:
            bands = slice(rows.start // coded.band, rows.stop // coded.band)
            coding.matvec_integers(coded.rows_of_planes(bands), act, y[rows])

        each(tile, chunks(coded.count, _TILE_ROWS))
        return y

    # Engines

    @classmethod
    def place(cls, record: PartRecord) -> str | None:
        """The codes' place, where the codebook is compiled."""
        return cls.kind if get_codebook(record["codebook"], record["bits"]).compiled else None

    def decode_row(self) -> EngineRow:
        """The first plane, and what the codebook says."""
        from lrc_kernels.cpu.dot import product

        own = self.coding.engine_row(self.coded)
        codes: dict[int, int | NDArray[Any]] = {product.CODES: self.planes[0]}
        codes |= {product.BITS: self.bits, **own.integers}
        return EngineRow(codes, own.floats)

    def prompt_row(self) -> EngineRow | None:
        """What the integers of each row are multiples of."""
        from lrc_kernels.cpu.engine import prompt_parts

        unit = self.coding.prompt_unit
        if unit is None:
            return None
        scales = np.broadcast_to(self.scales[:, 0].astype(np.float32), self.size[:1])
        return EngineRow({prompt_parts.UNITS: scales * np.float32(self.gain / unit)}, {})


def _groups(n: int, group_size: int) -> int:
    return -(-n // group_size) if group_size else 1
