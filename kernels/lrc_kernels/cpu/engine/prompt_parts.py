"""What a prompt's tokens need around its matrix products: one token of one matrix at a time.

Matrices are described by rows of :mod:`lrc_kernels.cpu.dot.product` and by rows of `EXTRAS` more.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc_kernels._jit import njit
from lrc_kernels.cpu.dot.product import (
    BITS,
    BLOCK_IN,
    CODES,
    COLUMNS,
    KIND,
    MATRIX_IN,
    ORDER_IN,
    RANK,
    REAL_IN,
    REPEAT,
    ROWS,
    SCALE_IN,
    SECOND,
    SHARED,
    SHUFFLE,
    SIGNS_IN,
    TABLE,
    finish,
)
from lrc_kernels.cpu.dot.weight_panels import multiply_weight_panel, split_words
from lrc_kernels.cpu.engine.barrier import wait_for_pieces
from lrc_kernels.cpu.transform.hadamard_vector import apply_diagonal, hadamard_vector
from lrc_kernels.simd.math import sum_f32
from lrc_kernels.simd.threads import arrive
from lrc_kernels.simd.values import (
    first_f32x16,
    load_f32,
    load_f32x16,
    splat_f32x16,
    store_f32,
    store_f32x16,
)
from lrc_kernels.simd.weight_panels import VECTORS

I64 = NDArray[np.int64]
F32 = NDArray[np.float32]

#: Of a matrix: scales of all rows f32 (m,) in units of a byte, L transposed f32 (rank, m) and
#: R f32 (rank, n), which of the site's activations are its own.
UNITS, LEFT, RIGHT, SLOT = 0, 1, 2, 3
#: Address of the kernel that multiplies its panels, see `linked`.
ENTRY = 4
EXTRAS = 5
#: Addresses that threads share, a row of each: activations of a site's slots and their scales,
#: R x of its matrices, their products.
WORDS, SCALES, PARTS, PRODUCTS = 0, 1, 2, 3
SHARED_ROWS = 4


_call_weight_panel = multiply_weight_panel.call


def linked(mats: I64, extra: I64) -> I64:
    """``extra`` of the rows ``mats`` with their kernels, compiled where they are new."""
    found = extra.copy()
    for mat, row in zip(mats, found, strict=True):
        rings = int(mat[KIND] == SHUFFLE)
        code = (int(mat[place]) for place in (BITS, SECOND, REPEAT))
        row[ENTRY] = multiply_weight_panel.address(rings, *code)
    return found


@njit(inner=True)
def _components(x: int, n: int, rows: int, rank: int, out: int) -> None:
    """Products of ``rank`` rows f32 (rank, n) with x."""
    for k in range(rank):
        total = splat_f32x16(np.float32(0))
        row = rows + 4 * n * k
        for i in range(0, n, 16):
            total = total + first_f32x16(x + 4 * i, n - i) * first_f32x16(row + 4 * i, n - i)
        store_f32(out + 4 * k, sum_f32(total))


@njit(inner=True)
def _add_components(y: int, m: int, rows: int, rank: int, parts: int) -> None:
    """Add rows f32 (rank, m), times one number each, to y; m is a multiple of 16."""
    for i in range(0, m, 16):
        total = load_f32x16(y + 4 * i)
        for k in range(rank):
            part = splat_f32x16(load_f32(parts + 4 * k))
            total = total + part * load_f32x16(rows + 4 * (m * k + i))
        store_f32x16(y + 4 * i, total)


@njit(inner=True)
def enter(
    mats: I64, nums: F32, extra: I64, first: int, count: int, x: int, t: int, capacity: int,
    highest: int, shared: I64, z: int, work: int,
) -> None:  # fmt: skip
    """Rotate and quantize x of token t for the matrices of a site, and apply their R.

    ``capacity``: tokens that buffers are made for; ``highest``: numbers of a token in R x.
    """
    for i in range(count):
        k = first + i
        n = mats[k, COLUMNS]
        if mats[k, SHARED] == 0:
            slot = extra[k, SLOT]
            if mats[k, SIGNS_IN] != 0:
                apply_diagonal(x, n, mats[k, SIGNS_IN], mats[k, REAL_IN], z)
                hadamard_vector(z, n, mats[k, BLOCK_IN], mats[k, ORDER_IN], mats[k, MATRIX_IN],
                     nums[k, SCALE_IN], 0, work)  # fmt: skip
            else:
                for j in range(n):
                    store_f32(z + 4 * j, load_f32(x + 4 * j))
            for j in range(n, (n + 63) // 64 * 64):
                store_f32(z + 4 * j, np.float32(0))
            split_words(z, n, t, capacity, shared[WORDS, slot], shared[SCALES, slot])
        if mats[k, RANK] > 0:
            parts = shared[PARTS, i] + 4 * highest * t
            _components(z, n, extra[k, RIGHT], mats[k, RANK], parts)


@njit(inner=True)
def leave(
    mats: I64, nums: F32, extra: I64, first: int, i: int, t: int, highest: int, shared: I64,
    out: int, work: int,
) -> None:  # fmt: skip
    """Output of token t of a site's matrix i: its product, plus L R x, rotated back."""
    k = first + i
    m = mats[k, ROWS]
    y = shared[PRODUCTS, i] + 4 * m * t
    if mats[k, RANK] > 0:
        parts = shared[PARTS, i] + 4 * highest * t
        _add_components(y, m, extra[k, LEFT], mats[k, RANK], parts)
    finish(mats, nums, k, y, out, work)


@njit(inner=True)
def multiply_site(
    mats: I64, extra: I64, first: int, count: int, tokens: int, capacity: int, shared: I64,
    claims: int, work: int, totals: int,
) -> None:  # fmt: skip
    """Multiply panels of a site's matrices until all are done.

    ``claims``: address of two counters at zero, of the panels begun and of those done.
    """
    while True:
        weight_panel, i, weight_panels = arrive(claims), count, 0
        for j in range(count):
            before = weight_panels
            weight_panels += (mats[first + j, ROWS] + 16 * VECTORS - 1) // (16 * VECTORS)
            if before <= weight_panel < weight_panels:
                i, weight_panel = j, weight_panel - before
                break
        if i == count:
            break
        k = first + i
        slot = extra[k, SLOT]
        _call_weight_panel(
            extra[k, ENTRY], mats[k, CODES], mats[k, TABLE], mats[k, ROWS], mats[k, COLUMNS],
            weight_panel, tokens, capacity, shared[WORDS, slot], shared[SCALES, slot],
            extra[k, UNITS], work, totals, shared[PRODUCTS, i],
        )  # fmt: skip
        arrive(claims + 8)
    wait_for_pieces(claims + 8, weight_panels)
