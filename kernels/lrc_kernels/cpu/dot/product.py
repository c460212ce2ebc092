"""One packed matrix times one vector, described by a row of integers and a row of floats.

The description holds addresses, so a whole model is two small arrays and nothing is copied from
a memory-mapped file. Integers and floats of a row are indexed by the constants below.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc_kernels._jit import constant, njit
from lrc_kernels.cpu.codes.e8p_tables import build_tables
from lrc_kernels.cpu.dot.dot_e8p import e8p_rows
from lrc_kernels.cpu.dot.dot_levels import (
    add_components,
    any_rows,
    dense_rows,
    level_rows,
)
from lrc_kernels.cpu.dot.dot_shuffle import shuffle_rows
from lrc_kernels.cpu.dot.dot_trellis import trellis_rows
from lrc_kernels.cpu.transform.activations import SEVEN, quantize, seven_bits_do
from lrc_kernels.cpu.transform.hadamard_vector import apply_diagonal, hadamard_vector
from lrc_kernels.simd.values import load_f32, store_f32

I64 = NDArray[np.int64]
F32 = NDArray[np.float32]

# Kinds of Q: absent; E8P codes; scalar codes by 64; any scalar codes; dense f32; trellis tiles;
# shuffle-trellis rings.
NONE, LATTICE, LEVELS, ANY_LEVELS, DENSE, TRELLIS, SHUFFLE = 0, 1, 2, 3, 4, 5, 6

# Integers: shape, codes (BITS is the stage of a lattice code; a trellis has its state bits in
# SECOND, the code's multiplier in TABLE or the levels of its states there, the rows of a tile in
# REPEAT), scales, rotations, factors.
KIND, ROWS, COLUMNS, CODES, SECOND, BITS, TABLE = 0, 1, 2, 3, 4, 5, 6
HALVES, GROUPS, REPEAT, SCALES, SCALE_STEP = 7, 8, 9, 10, 11
SIGNS_IN, SIGNS_OUT, BIAS, ORDERS, SHARED = 12, 13, 14, 15, 16
BLOCK_IN, ORDER_IN, MATRIX_IN, BLOCK_OUT, ORDER_OUT, MATRIX_OUT = 17, 18, 19, 20, 21, 22
RANK, LEFT, LEFT_BITS, LEFT_LEVELS, LEFT_SCALES = 23, 24, 25, 26, 27
RIGHT, RIGHT_BITS, RIGHT_TABLE, RIGHT_LEVELS, RIGHT_SCALES = 28, 29, 30, 31, 32
LEFT_TABLE = 33
# Whether what SIGNS_IN and SIGNS_OUT lead to is numbers f32, not bits.
REAL_IN, REAL_OUT = 34, 35
# Addresses of the kernels that multiply rows of Q and of R, see `linked`.
ENTRY, RIGHT_ENTRY = 36, 37
INTEGERS = 38
# Floats.
INVERSE, UNIT, CENTRE, GAIN, SCALE_IN, SCALE_OUT, RIGHT_UNIT, RIGHT_CENTRE = 0, 1, 2, 3, 4, 5, 6, 7
LEFT_UNIT = 8
FLOATS = 9

_ZERO, _ONE = constant(0), constant(1)
_call_e8p, _call_levels = e8p_rows.call, level_rows.call
_call_trellis, _call_shuffle = trellis_rows.call, shuffle_rows.call


def shared_tables() -> NDArray[np.uint8]:
    """What `multiply` decodes the codes of all matrices with: ``tables`` is its address."""
    return build_tables()


def linked(mats: I64) -> I64:
    """Rows (matrices, INTEGERS) with their kernels, which are compiled where they are new."""
    found = mats.copy()
    for mat in found:
        mat[ENTRY] = _entry(mat)
        if mat[RANK] > 0 and mat[RIGHT_TABLE] != 0:
            mat[RIGHT_ENTRY] = level_rows.address(int(mat[RIGHT_BITS]), 1)
    return found


def _entry(mat: I64) -> int:
    """The kernel of Q; 0 where it needs none of its own."""
    kind, bits = mat[KIND], int(mat[BITS])
    if kind == LATTICE:
        return e8p_rows.address(bits)
    if kind == LEVELS:
        return level_rows.address(bits, int(mat[TABLE] != 0))
    if kind == TRELLIS:
        return trellis_rows.address(bits)
    return shuffle_rows.address(bits, int(mat[SECOND])) if kind == SHUFFLE else 0


@njit(inner=True)
def prepare(
    mats: I64, nums: F32, k: int, x: int, z: int, width: int, act: int, work: int
) -> np.float32:
    """Rotate x f32 (n,) into z as matrix k wants it, and quantize it; return sum s q."""
    mat, num = mats[k], nums[k]
    n = mat[COLUMNS]
    if mat[SIGNS_IN] != 0:
        apply_diagonal(x, n, mat[SIGNS_IN], mat[REAL_IN], z)
        hadamard_vector(z, n, mat[BLOCK_IN], mat[ORDER_IN], mat[MATRIX_IN], num[SCALE_IN], 0, work)
    else:
        for i in range(n):
            store_f32(z + 4 * i, load_f32(x + 4 * i))
    for i in range(n, (n + 63) // 64 * 64):
        store_f32(z + 4 * i, np.float32(0))
    alone = mat[ORDERS] & SEVEN != 0 and seven_bits_do(x, z, n)
    return quantize(z, n, width, act, mat[ORDERS], alone)


@njit(inner=True)
def rows_of_thread(mats: I64, k: int, up: int, thread: int, threads: int) -> tuple[int, int]:
    """Rows of matrix k that a thread multiplies: whole bands of a trellis, else whole 16s.

    Where they do not divide evenly the first threads get more with ``up`` 1, the last with 0.
    """
    rows = mats[k, ROWS]
    unit = mats[k, REPEAT] if mats[k, KIND] >= TRELLIS else 16
    parts, more = (rows + unit - 1) // unit, up * (threads - 1)
    start = unit * ((parts * thread + more) // threads)
    return start, min(rows, unit * ((parts * (thread + 1) + more) // threads))


@njit(inner=True)
def multiply(
    mats: I64, nums: F32, k: int, z: int, act: int, width: int, x_sum: np.float32, tables: int,
    work: int, t: int, y: int, start: int, stop: int,
) -> None:  # fmt: skip
    """Rows ``start`` to ``stop`` of matrix k times what `prepare` made, to y, still rotated."""
    mat, num = mats[k], nums[k]
    kind, n = mat[KIND], mat[COLUMNS]
    if kind == LATTICE:
        _call_e8p(mat[ENTRY], mat[CODES], mat[SECOND], num[INVERSE], n, act, width, x_sum, tables,
                  mat[SCALES], mat[SCALE_STEP], y, start, stop)  # fmt: skip
    elif kind == LEVELS:
        _call_levels(mat[ENTRY], mat[CODES], mat[ROWS], n, mat[TABLE], num[UNIT], num[CENTRE], act,
                     width, x_sum, mat[HALVES], mat[GROUPS], mat[REPEAT], mat[SCALES],
                     mat[SCALE_STEP], work, y, start, stop)  # fmt: skip
    elif kind == ANY_LEVELS:
        any_rows(mat[CODES], mat[BITS], mat[TABLE], n, mat[REPEAT], mat[GROUPS],
                 mat[SCALE_STEP], mat[SCALES], num[GAIN], z, y, start, stop)  # fmt: skip
    elif kind == TRELLIS:
        _call_trellis(mat[ENTRY], mat[CODES], mat[SECOND], mat[TABLE], mat[REPEAT], n, act, width,
                      mat[SCALES], mat[SCALE_STEP], y, start, stop)  # fmt: skip
    elif kind == SHUFFLE:
        _call_shuffle(mat[ENTRY], mat[CODES], mat[TABLE], mat[REPEAT], n, act, width, mat[SCALES],
                      mat[SCALE_STEP], y, start, stop)  # fmt: skip
    elif kind == DENSE:
        dense_rows(mat[CODES], n, z, y, start, stop)
    else:
        for i in range(start, stop):
            store_f32(y + 4 * i, np.float32(0))
    rank = mat[RANK]
    if rank > 0:
        if mat[RIGHT_TABLE] != 0:
            _call_levels(mat[RIGHT_ENTRY], mat[RIGHT], rank, n, mat[RIGHT_TABLE], num[RIGHT_UNIT],
                         num[RIGHT_CENTRE], act, width, x_sum, 0, 0, 1, mat[RIGHT_SCALES], 4, work,
                         t, 0, rank)  # fmt: skip
        elif mat[RIGHT_BITS] == 32:
            dense_rows(mat[RIGHT], n, z, t, _ZERO, rank)
        else:
            any_rows(mat[RIGHT], mat[RIGHT_BITS], mat[RIGHT_LEVELS], n, n, _ONE,
                     _ONE, mat[RIGHT_SCALES], np.float32(1), z, t, _ZERO, rank)  # fmt: skip
        add_components(mat[LEFT], mat[LEFT_BITS], mat[LEFT_LEVELS], mat[LEFT_TABLE],
                       num[LEFT_UNIT], mat[LEFT_SCALES], rank, mat[ROWS], t, num[GAIN], work, y,
                       start, stop)  # fmt: skip


@njit(inner=True)
def finish(mats: I64, nums: F32, k: int, y: int, out: int, work: int) -> None:
    """Rotate the product y f32 (m,) back into ``out``, and add the bias."""
    mat, num = mats[k], nums[k]
    m = mat[ROWS]
    for i in range(m):
        store_f32(out + 4 * i, load_f32(y + 4 * i))
    if mat[SIGNS_OUT] != 0:
        hadamard_vector(
            out, m, mat[BLOCK_OUT], mat[ORDER_OUT], mat[MATRIX_OUT], num[SCALE_OUT], 1, work
        )
        apply_diagonal(out, m, mat[SIGNS_OUT], mat[REAL_OUT], out)
    if mat[BIAS] != 0:
        for i in range(m):
            store_f32(out + 4 * i, load_f32(out + 4 * i) + load_f32(mat[BIAS] + 4 * i))
