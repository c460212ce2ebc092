"""Scalar codebooks: one code of 2 to 8 bits a weight, rows packed as bit strings.

=============  ====  ==========================================  =============================
codebook       bits  planes of an m x n matrix                   a weight, unscaled
=============  ====  ==========================================  =============================
uniform        2-8   u8 (m, ceil(n*bits/8)), packed row by row   c - (2^bits - 1) / 2
lloyd-max      2-8   u8 (m, ceil(n*bits/8)), packed row by row   levels("lloyd-max", bits)[c]
=============  ====  ==========================================  =============================
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrc.codebooks.base import (
    F32,
    Codebook,
    CodedRows,
    EngineRow,
    PlaneLayout,
    Planes,
    row_scales,
    stray_bits,
)
from lrc.codebooks.levels import levels
from lrc_kernels.backend import get_kernels

if TYPE_CHECKING:
    from lrc_kernels.cpu.dot.matvec_i8 import Activations


class LevelBytes(NamedTuple):
    """Code c stands for ``unit * (entries[c] - centre)``; without entries, c is its own."""

    entries: NDArray[np.uint8] | None
    unit: float
    centre: float


@cache
def level_bytes(name: str, bits: int) -> LevelBytes | None:
    """Bytes of a scalar codebook; None where its levels are no multiples of a unit that fit.

    Entries are 16 bytes, four times over.
    """
    if name == "uniform":
        return LevelBytes(None, 1.0, (2**bits - 1) / 2)
    if bits > 4:
        return None
    values = levels(name, bits)
    unit = float(values[-1]) / 127
    entries = np.zeros(16, np.uint8)
    entries[: len(values)] = np.rint(values / unit).astype(np.int64) + 128
    table = np.tile(entries, 4)
    table.setflags(write=False)
    return LevelBytes(table, unit, 128.0)


@dataclass(frozen=True)
class Scalar(Codebook):
    """Codes that are looked up in a table of levels."""

    compiled: ClassVar[bool] = True
    multiplies_few: ClassVar[bool] = True

    @property
    def levels(self) -> F32:
        """Values of the codes: f32 (2**bits,), ascending, read-only."""
        return levels(self.name, self.bits)

    def layout(self, m: int, n: int) -> PlaneLayout:
        """One plane of packed rows."""
        return ((np.dtype(np.uint8), (m, -(-n * self.bits // 8))),)

    @property
    def step(self) -> float | None:
        """One, of codes that are their own values."""
        return 1.0 if self.name == "uniform" else None

    def stray(self, planes: Planes, n: int) -> bool:
        """Bits past the last code of a row."""
        return stray_bits(planes[0], n * self.bits)

    def values(self, planes: Planes, n: int, band: int = 1) -> F32:
        """Levels of the codes."""
        return self.levels[get_kernels().unpack_bits(planes[0], self.bits, n)]

    def rows(self, coded: CodedRows) -> F32:
        """Decoded by a vector kernel."""
        from lrc_kernels.cpu.codes.decode_levels import decode_rows_scalar

        out = np.empty((coded.count, coded.columns), np.float32)
        decode_rows_scalar(
            coded.planes[0], self.bits, coded.wide, coded.group_size, out, **self._table()
        )  # fmt: skip
        return out

    def matmul_few(self, coded: CodedRows, x: F32, out: F32) -> None:
        """Every row is decoded once, and never stored."""
        from lrc_kernels.cpu.dot.few_vectors import multiply_few

        multiply_few(
            coded.planes[0], self.bits, coded.wide, coded.group_size, x, out, **self._table()
        )  # fmt: skip

    def _table(self) -> dict[str, Any]:
        """What the codes stand for, as the kernels want it."""
        known = level_bytes(self.name, self.bits)
        return {"levels": self.levels} if known is None else known._asdict()

    def matvec(self, coded: CodedRows, x: F32) -> F32:
        """Products with levels, never stored."""
        return get_kernels().matvec_levels(
            coded.planes[0], self.bits, self.levels, coded.wide, coded.group_size, x
        )

    def takes_integers(self, coded: CodedRows) -> bool:
        """Equally spaced levels with scales of whole 64s, or of rows."""
        return self.name == "uniform" and (self._by_64(coded) or coded.scales.shape[1] == 1)

    def matvec_integers(self, coded: CodedRows, x: Activations, out: F32) -> None:
        """Products of bytes with codes."""
        from lrc_kernels.cpu.dot.matvec_i8 import matvec_uniform

        grouped = coded.group_size > 0 and self._by_64(coded)
        halves = coded.scales if grouped else None
        matvec_uniform(coded.planes[0], self.bits, halves, coded.group_size, x, out)
        out *= np.float32(coded.gain) if grouped else coded.wide[:, 0]

    def engine_row(self, coded: CodedRows) -> EngineRow:
        """As bytes where levels and groups allow it, else by a table of floats."""
        from lrc_kernels.cpu.dot import product

        known = level_bytes(self.name, self.bits)
        if known is None or not (coded.scales.shape[1] == 1 or self._by_64(coded)):
            return EngineRow({
                product.KIND: product.ANY_LEVELS,
                product.TABLE: self.levels,
                product.GROUPS: coded.scales.shape[1],
                product.REPEAT: coded.group_size or coded.columns,
                product.SCALES: coded.scales.astype(np.float32),
                product.SCALE_STEP: int(coded.scales.shape[0] > 1),
            }, {})  # fmt: skip
        integers: dict[int, int | NDArray[Any]] = {
            product.KIND: product.LEVELS,
            product.ORDERS: order(self.bits),
            product.TABLE: 0 if known.entries is None else known.entries,
        }
        if coded.scales.shape[1] == 1:
            integers |= row_scales(coded)
        else:
            integers |= {
                product.HALVES: coded.scales,
                product.GROUPS: coded.scales.shape[1],
                product.REPEAT: coded.group_size // 64,
                product.SCALES: np.array([coded.gain], np.float32),
            }
        return EngineRow(integers, {product.UNIT: known.unit, product.CENTRE: known.centre})

    def _by_64(self, coded: CodedRows) -> bool:
        return coded.group_size % 64 == 0 and len(coded.scales) == coded.count


def order(bits: int) -> int:
    """Order of the activations that packed codes of this width are multiplied in."""
    from lrc_kernels.cpu.transform import activations

    return {2: activations.BY_FOUR, 4: activations.BY_TWO}.get(bits, activations.IN_ORDER)


def codebook(name: str, bits: int) -> Codebook:
    """The codebook ``name``, whose ``bits`` the table has checked."""
    return Scalar(name, bits)
