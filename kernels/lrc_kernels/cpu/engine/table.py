"""Rows of a program: what the compiled loops do, one operation after the other.

A row is ``COLUMNS`` integers and ``NUMBERS`` floats. Operands are numbers of buffers, whose
addresses each thread looks up in its own buffers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lrc_kernels._jit import njit
from lrc_kernels.cpu.engine.elementwise import (
    activate,
    add_to,
    cap_softly,
    copy_stretches,
    gate_by,
    scale_by,
)
from lrc_kernels.cpu.engine.norms import normalise, rotate_heads

# Operations on one token, by `compute`. TARGET = COUNT stretches of WIDTH, STRIDE apart in SOURCE,
# from its number FIRST on; norm by KIND of COUNT stretches of WIDTH, weights at ADDRESS, bias at
# BIAS, the float is added to mean squares; rotary positions of the first WIDTH numbers, pairs by
# KIND, of COUNT heads STRIDE apart in TARGET, by table ADDRESS; TARGET = kind(TARGET) * SOURCE by
# KIND; TARGET += SOURCE.
COPY, NORM, ROTATE, GATE, ADD = 0, 1, 2, 3, 4
# Of WIDTH numbers of TARGET, each by itself, and where PARTED is 1 a part by each thread: an
# activation by KIND; times the float; capped softly at the float.
ACTIVATE, SCALE, SOFT_CAP = 5, 6, 7
#: COUNT matrices, from MATRIX on, times SOURCE.
MULTIPLY = 8
#: COUNT queries SOURCE of WIDTH over keys KEYS and values VALUES of KV_HEADS heads, kept in the
#: cache of layer ADDRESS, no more than WINDOW of them (0: all); the first float scales products,
#: which are capped softly at the second (0: not).
ATTEND = 9
# Of `token` alone: wait for the other threads; the product SOURCE of MATRIX rotated back to TARGET.
BARRIER, FINISH = 10, 11
# Of `prompt` alone: quantize SOURCE for COUNT matrices from MATRIX on; the product of matrix
# number COUNT of those from MATRIX on, rotated back to TARGET; KV_HEADS keys SOURCE of WIDTH, or
# values where KIND is 1, to the cache of layer ADDRESS.
ENTER, LEAVE, KEEP = 12, 13, 14

CODE, SOURCE, TARGET, KEYS, VALUES, MATRIX = 0, 1, 2, 3, 4, 5
COUNT, KV_HEADS, WIDTH, WINDOW, ADDRESS = 6, 7, 8, 9, 10
STRIDE, KIND, BIAS, FIRST, PARTED = 11, 12, 13, 14, 15
COLUMNS = 16
#: Floats of a row.
NUMBERS = 2

#: Of a layer's cache: addresses of keys and values f32 (kv_heads, tokens, head_dim), how many
#: tokens there is room for, and the position of the first of them.
CACHED_KEYS, CACHED_VALUES, ROOM, BEGIN = 0, 1, 2, 3
CACHE = 4


def row(code: int, **columns: Any) -> list[int]:
    """A row of the table, by the names of its columns in lower case; the others are 0."""
    found = [code] + [0] * (COLUMNS - 1)
    for name, value in columns.items():
        found[globals()[name.upper()]] = int(value)
    return found


@njit(inline=True)
def compute(
    code: int, count: int, width: int, stride: int, kind: int, first: int, address: int, bias: int,
    number: np.float32, source: int, target: int, cos: int, sin: int,
) -> None:  # fmt: skip
    """Do an operation on one token, whose columns these are, with buffers at these addresses."""
    if code == NORM:
        for i in range(count):
            at = 4 * width * i
            normalise(source + at, address, bias, width, number, kind, target + at)
    elif code == ROTATE:
        rotate_heads(target, count, width, stride, kind, cos, sin)
    elif code == GATE:
        gate_by(target, source, width, kind)
    elif code == ADD:
        add_to(target, source, width)
    elif code == ACTIVATE:
        activate(target, width, kind)
    elif code == SCALE:
        scale_by(target, width, number)
    elif code == SOFT_CAP:
        cap_softly(target, width, number)
    else:
        copy_stretches(source + 4 * first, count, width, stride, target)
