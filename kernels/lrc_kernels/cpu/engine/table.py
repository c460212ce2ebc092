"""Rows of a program: what the compiled loops do, one operation after the other.

A row is ``COLUMNS`` integers and one float. Operands are numbers of buffers, whose addresses each
thread looks up in its own buffers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lrc_kernels._jit import njit
from lrc_kernels.cpu.engine.token_parts import add_to, gate_by_silu, normalise, rotate_pairs
from lrc_kernels.simd.values import load_f32, store_f32

# Operations on one token, by `compute`: TARGET = SOURCE of WIDTH; RMSNorm of COUNT stretches of
# WIDTH, weights at ADDRESS, the float is added to mean squares; rotary positions of COUNT heads of
# WIDTH in TARGET, by table ADDRESS; TARGET = silu(TARGET) * SOURCE; TARGET += SOURCE.
COPY, NORM, ROTATE, GATE, ADD = 0, 1, 2, 3, 4
#: COUNT matrices, from MATRIX on, times SOURCE.
MULTIPLY = 5
#: COUNT queries SOURCE of WIDTH over keys KEYS and values VALUES of KV_HEADS heads, kept in the
#: cache of layer ADDRESS, no more than WINDOW of them (0: all); the float scales products.
ATTEND = 6
# Of `token` alone: wait for the other threads; the product SOURCE of MATRIX rotated back to TARGET.
BARRIER, FINISH = 7, 8
# Of `prompt` alone: quantize SOURCE for COUNT matrices from MATRIX on; the product of matrix
# number COUNT of those from MATRIX on, rotated back to TARGET; KV_HEADS keys SOURCE of WIDTH, or
# values where WINDOW is 1, to the cache of layer ADDRESS.
ENTER, LEAVE, KEEP = 9, 10, 11

CODE, SOURCE, TARGET, KEYS, VALUES, MATRIX = 0, 1, 2, 3, 4, 5
COUNT, KV_HEADS, WIDTH, WINDOW, ADDRESS = 6, 7, 8, 9, 10
COLUMNS = 11


def row(code: int, **columns: Any) -> list[int]:
    """A row of the table, by the names of its columns in lower case; the others are 0."""
    found = [code] + [0] * (COLUMNS - 1)
    for name, value in columns.items():
        found[globals()[name.upper()]] = int(value)
    return found


@njit(inline=True)
def compute(
    code: int, count: int, width: int, address: int, number: np.float32, source: int, target: int,
    cos: int, sin: int,
) -> None:  # fmt: skip
    """Do an operation on one token, whose columns these are, with buffers at these addresses."""
    if code == NORM:
        for i in range(count):
            at = 4 * width * i
            normalise(source + at, address, width, number, target + at)
    elif code == ROTATE:
        rotate_pairs(target, count, width, cos, sin)
    elif code == GATE:
        gate_by_silu(target, source, width)
    elif code == ADD:
        add_to(target, source, width)
    else:
        for i in range(width):
            store_f32(target + 4 * i, load_f32(source + 4 * i))
