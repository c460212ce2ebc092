"""Rows of a program: what the compiled loops do, one operation after the other.

A row is ``COLUMNS`` integers and ``NUMBERS`` floats. Operands are numbers of buffers, whose
addresses each thread looks up in its own buffers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lrc_kernels._jit import constant, njit
from lrc_kernels.cpu.dot.dot_levels import dense_rows
from lrc_kernels.cpu.engine.elementwise import (
    activate,
    add_to,
    cap_softly,
    copy_stretches,
    gate_by,
    scale_by,
    soften,
)
from lrc_kernels.cpu.engine.experts import route, weigh_by_sigmoid
from lrc_kernels.cpu.engine.norms import normalise, rotate_heads
from lrc_kernels.simd.values import load_f32

_ZERO = constant(0)

# Operations on one token, by `compute`. TARGET = COUNT stretches of WIDTH, STRIDE apart in SOURCE,
# from its number FIRST on; norm by KIND of COUNT stretches of WIDTH, weights at ADDRESS, STRIDE
# numbers further on for the next stretch, bias at BIAS, the float is added to mean squares; rotary
# positions of the first WIDTH numbers, pairs by KIND, of COUNT heads STRIDE apart in TARGET, by
# table ADDRESS; TARGET = kind(TARGET) * SOURCE by KIND; TARGET += SOURCE.
COPY, NORM, ROTATE, GATE, ADD = 0, 1, 2, 3, 4
# Of WIDTH numbers of TARGET, each by itself, and where PARTED is 1 a part by each thread: an
# activation by KIND; times the float; capped softly at the float. Then: softplus, with the bias at
# BIAS, between the two floats; times number FIRST of SOURCE; times a sigmoid, that of the product
# of COUNT numbers of SOURCE with those at ADDRESS.
ACTIVATE, SCALE, SOFT_CAP, SOFTPLUS, WEIGH, WEIGH_BY_SIGMOID = 5, 6, 7, 8, 9, 10
# The product of f32 (COUNT, WIDTH) at ADDRESS with SOURCE, where PARTED is 1 a part by each thread;
# shares of WIDTH experts from their scores SOURCE, 0 for all but COUNT, by KIND of sum one.
PROJECT, ROUTE = 11, 12
#: COUNT matrices, from MATRIX on, times SOURCE.
MULTIPLY = 13
#: COUNT queries SOURCE of WIDTH over keys KEYS and values VALUES of KV_HEADS heads, kept in the
#: cache of layer ADDRESS, no more than WINDOW of them (0: all); the first float scales products,
#: which are capped softly at the second (0: not); slopes of heads at BIAS.
ATTEND = 14
# Of `token` alone: wait for the other threads; the product SOURCE of MATRIX rotated back to TARGET;
# leave out the next COUNT rows where number FIRST of SOURCE is 0.
BARRIER, FINISH, SKIP = 15, 16, 17
# With state number STATE: convolution of WIDTH channels of TARGET by COUNT taps
# at ADDRESS, bias at BIAS; scans of SOURCE to TARGET with step sizes KEYS, inputs VALUES, outputs
# OUTPUTS, decay at ADDRESS and skip at BIAS, of COUNT states: of WIDTH channels, or of KV_HEADS
# groups of heads, in all STRIDE of them, of WIDTH.
CONVOLVE, SELECTIVE_SCAN, SSD_SCAN = 18, 19, 20
# Of `prompt` alone: quantize SOURCE for COUNT matrices from MATRIX on; the product of matrix
# number COUNT of those from MATRIX on, rotated back to TARGET; KV_HEADS keys SOURCE of WIDTH, or
# values where KIND is 1, to the cache of layer ADDRESS; the tokens of COUNT experts, listed by
# their shares SOURCE as those of number FIRST and the next.
ENTER, LEAVE, KEEP, LIST = 21, 22, 23, 24

CODE, SOURCE, TARGET, KEYS, VALUES, MATRIX = 0, 1, 2, 3, 4, 5
COUNT, KV_HEADS, WIDTH, WINDOW, ADDRESS = 6, 7, 8, 9, 10
STRIDE, KIND, BIAS, FIRST, PARTED, OUTPUTS, STATE = 11, 12, 13, 14, 15, 16, 17
#: Address of the kernel of a row with a state, see `scans`.
ENTRY = 18
COLUMNS = 19
#: Floats of a row.
NUMBERS = 2

#: Of a layer's cache: addresses of keys and values f32 (kv_heads, tokens, head_dim), how many
#: tokens there is room for, and the position of the first of them.
CACHED_KEYS, CACHED_VALUES, CAPACITY, BEGIN = 0, 1, 2, 3
# Where these are codes of so many bits, not 0, those of `kept_codes`: addresses of the scales, the
# transform that rows are rotated with, and addresses of the kernels.
CODE_BITS, SCALES_OF_KEYS, SCALES_OF_VALUES = 4, 5, 6
HADAMARD_BLOCK, HADAMARD_ORDER, HADAMARD_MATRIX = 7, 8, 9
KEEP_ENTRY, DECODE_ENTRY, ATTEND_ENTRY = 10, 11, 12
CACHE = 13


def row(code: int, **columns: Any) -> list[int]:
    """A row of the table, by the names of its columns in lower case; the others are 0."""
    found = [code] + [0] * (COLUMNS - 1)
    for name, value in columns.items():
        found[globals()[name.upper()]] = int(value)
    return found


@njit(inline=True)
def compute(
    code: int, count: int, width: int, stride: int, kind: int, first: int, address: int, bias: int,
    number: np.float32, second: np.float32, source: int, target: int, cos: int, sin: int,
) -> None:  # fmt: skip
    """Do an operation on one token, whose columns these are, with buffers at these addresses."""
    if code == NORM:
        for i in range(count):
            at, own = 4 * width * i, 4 * stride * i
            shift = bias + own if bias != 0 else bias
            normalise(source + at, address + own, shift, width, number, kind, target + at)
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
    elif code == SOFTPLUS:
        soften(target, bias, width, number, second)
    elif code == WEIGH:
        scale_by(target, width, load_f32(source + 4 * first))
    elif code == WEIGH_BY_SIGMOID:
        weigh_by_sigmoid(target, width, source, address, count)
    elif code == PROJECT:
        dense_rows(address, width, source, target, _ZERO, count)
    elif code == ROUTE:
        route(source, width, count, kind, target)
    else:
        copy_stretches(source + 4 * first, count, width, stride, target)
