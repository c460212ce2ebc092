"""Packed matrix times one vector on integer activations: NumPy arrays in, NumPy arrays out.

The decode engine calls the same kernels through :mod:`lrc_kernels.cpu.dot.product`.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrc_kernels.cpu.codes import e8p_tables
from lrc_kernels.cpu.codes.shuffle import check_bytes
from lrc_kernels.cpu.dot import dot_e8p, dot_levels, dot_shuffle, dot_trellis
from lrc_kernels.cpu.transform import activations
from lrc_kernels.cpu.transform.activations import GROUP, LOW
from lrc_kernels.shuffle_code import state_levels

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


class Activations(NamedTuple):
    """A vector of n inputs as the kernels read it, see `transform.activations`."""

    n: int
    width: int
    buffer: U8
    total: np.float32

    def values(self) -> tuple[NDArray[np.int32], F32]:
        """Integers ``128 h + l`` (n,) and the scale of each group of 64."""
        high = self.buffer[: self.width].view(np.int8).astype(np.int32)
        start = LOW * self.width
        low = self.buffer[start : start + self.width].view(np.int8)
        groups = -(-self.n // GROUP)
        scales = self.buffer[2 * LOW * self.width + self.width // 4 :][: 4 * groups].view(
            np.float32
        )
        return (128 * high + low)[: self.n], scales.copy()


@cache
def tables() -> U8:
    """Lattice tables of the path in use."""
    return e8p_tables.build_tables()


def quantize(x: F32, alone: bool = False) -> Activations:
    """Integers of a vector f32 (n,), in every order: of 15 bits, or of 7 with ``alone``."""
    n = x.shape[0]
    width = activations.padded(n)
    buffer = np.zeros(activations.size(n), np.uint8)
    padded = np.zeros(width, np.float32)
    padded[:n] = x
    every = activations.LATTICE | activations.BY_TWO | activations.BY_FOUR | activations.IN_ORDER
    every |= activations.TWICE
    total = activations.quantize(padded.ctypes.data, n, width, buffer.ctypes.data, every, alone)
    return Activations(n, width, buffer, np.float32(total))


def matvec_lattice(
    codes: NDArray[np.uint16], x: Activations, second: NDArray[Any] | None = None,
    residual_scale: float = 1.0, out: F32 | None = None,
) -> F32:  # fmt: skip
    """Lattice codes u16 (m, ceil(n / 8)), with a second stage u8 or u16, times x: f32 (m,)."""
    codes = np.ascontiguousarray(codes)
    m, k = codes.shape
    if k != -(-x.n // 8):
        raise ValueError(f"codes have {k} vectors a row; x of {x.n} needs {-(-x.n // 8)}")
    stage, address = 2, 0
    if second is not None:
        second = np.ascontiguousarray(second)
        if second.shape != codes.shape or second.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"second stage is {second.dtype} {second.shape}, not {codes.shape}")
        stage, address = (3 if second.dtype == np.uint8 else 4), second.ctypes.data
    y = np.empty(m, np.float32) if out is None else out
    one, points = np.ones(1, np.float32), tables()
    dot_e8p.e8p_rows.kernel(stage)(
        codes.ctypes.data, address, np.float32(1 / residual_scale), x.n,
        x.buffer.ctypes.data, x.width, x.total, points.ctypes.data, one.ctypes.data, 0,
        y.ctypes.data, 0, m,
    )  # fmt: skip
    return y


def matvec_uniform(
    words: U8, bits: int, scales: NDArray[np.float16] | None, group_size: int, x: Activations,
    out: F32 | None = None,
) -> F32:  # fmt: skip
    """Packed uniform codes u8 (m, ceil(n * bits / 8)) times x: f32 (m,).

    ``scales``: float16 (m, ceil(n / group_size)) with groups of whole 64s, or None: no scale.
    """
    words = np.ascontiguousarray(words)
    m, size = words.shape
    if size != -(-x.n * bits // 8):
        raise ValueError(f"rows have {size} bytes; x of {x.n} needs {-(-x.n * bits // 8)}")
    if scales is not None and (group_size % 64 or scales.shape != (m, -(-x.n // group_size))):
        raise ValueError(f"scales {scales.shape} do not fit groups of {group_size}")
    halves = None if scales is None else np.ascontiguousarray(scales, np.float16)
    groups, address = (0, 0) if halves is None else (halves.shape[1], halves.ctypes.data)
    y = np.empty(m, np.float32) if out is None else out
    one, work = np.ones(1, np.float32), np.zeros(x.width, np.uint8)
    dot_levels.level_rows.kernel(bits, 0)(
        words.ctypes.data, m, x.n, 0, np.float32(1), np.float32((2**bits - 1) / 2),
        x.buffer.ctypes.data, x.width, x.total, address, groups, max(1, group_size // 64),
        one.ctypes.data, 0, work.ctypes.data, y.ctypes.data, 0, m,
    )  # fmt: skip
    return y


def matvec_levels(words: U8, bits: int, table: U8, x: Activations, out: F32 | None = None) -> F32:
    """Packed codes u8 (m, ceil(n * bits / 8)) of up to 4 bits as ``table[code] - 128``, times x.

    ``table``: u8 (16,). The product is f32 (m,).
    """
    words = np.ascontiguousarray(words)
    m, size = words.shape
    if size != -(-x.n * bits // 8) or table.shape != (16,) or table.dtype != np.uint8:
        raise ValueError(
            f"rows of {size} bytes and a table {table.dtype} {table.shape} do not fit x of {x.n}: "
            f"{-(-x.n * bits // 8)} bytes and uint8 (16,) do"
        )
    y = np.empty(m, np.float32) if out is None else out
    one, work, entries = np.ones(1, np.float32), np.zeros(x.width, np.uint8), np.tile(table, 4)
    dot_levels.level_rows.kernel(bits, 1)(
        words.ctypes.data, m, x.n, entries.ctypes.data, np.float32(1), np.float32(128),
        x.buffer.ctypes.data, x.width, x.total, 0, 0, 1, one.ctypes.data, 0, work.ctypes.data,
        y.ctypes.data, 0, m,
    )  # fmt: skip
    return y


def matvec_trellis(
    words: NDArray[np.uint16], bits: int, state_bits: int, rows: int, x: Activations,
    out: F32 | None = None,
) -> F32:  # fmt: skip
    """Bands of tiles u16 (a, ceil(n * rows / 256) * 16 * bits) times x: f32 (a * rows,)."""
    dot_trellis.check_words(words, bits, state_bits, rows, x.n)
    words = np.ascontiguousarray(words)
    m = len(words) * rows
    y = np.empty(m, np.float32) if out is None else out
    one = np.ones(1, np.float32)
    dot_trellis.trellis_rows.kernel(bits)(
        words.ctypes.data, state_bits, dot_trellis.FACTOR, rows, x.n,
        x.buffer.ctypes.data, x.width, one.ctypes.data, 0, y.ctypes.data, 0, m,
    )  # fmt: skip
    return y


def matvec_shuffle(
    data: U8, bits: int, state_bits: int, rows: int, x: Activations, out: F32 | None = None
) -> F32:
    """Bands of rings u8 (a, `shuffle_code.plane_bytes`) times x: f32 (a * rows,)."""
    check_bytes(data, bits, state_bits, rows, x.n)
    data = np.ascontiguousarray(data)
    m = len(data) * rows
    y = np.empty(m, np.float32) if out is None else out
    one, levels = np.ones(1, np.float32), state_levels(bits, state_bits)
    dot_shuffle.shuffle_rows.kernel(bits, state_bits)(
        data.ctypes.data, levels.ctypes.data, rows, x.n, x.buffer.ctypes.data,
        x.width, one.ctypes.data, 0, y.ctypes.data, 0, m,
    )  # fmt: skip
    return y
