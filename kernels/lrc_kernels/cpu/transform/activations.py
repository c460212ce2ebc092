"""Activations as pairs of int8 in groups of 64, in every order that the matvec kernels read.

One int8 is not enough: where a few inputs are huge, a rotation spreads them over all, and what
is left for the rest costs more quality than the weights' two bits do. So ``x = s (128 h + l)``
with int8 h and l, 15 bits together; decoding a weight costs far more than the second product.

Trellis tiles are the exception: a second product is a third of their work. For them h alone is
kept, and l is zero, wherever :func:`seven_bits_do` finds that nothing is drowned.

AVX2 multiplies 16-bit words better than bytes. There (`BY_WORDS`) the parts that packed codes are
multiplied with hold words 128 h + l: numbers 0, 2, 4, ... of each group in the place of h, and
1, 3, 5, ... in that of l, from the first part as well as from those of 2 N and 3 N.

A buffer of :func:`size` bytes holds, for ``N`` inputs (n rounded up to 256), four parts of h,
the same four of l, 4 N bytes later, then the scales:

=============  =========  =====================================================================
offset         type       meaning
=============  =========  =====================================================================
0              i8 (N,)    h, where ``s = max|x| / 16256`` of each group
N              i8 (N,)    in blocks of 256, spread for lattice points: `spread_points` with
                          AVX-512, else `spread_words`
2 N            i8 (N,)    each group's entries 0, 2, 4, ... then 1, 3, 5, ...
3 N            i8 (N,)    each group's entries 0, 4, 8, ... then 1, 5, ... and so on
8 N            f32        s, four times a group
8.25 N         f32        s, once a group
8.3125 N       f32        s times the group's sum of 128 h + l
9 N            i16 (2 N)  128 h + l, each twice; with h alone i8 (4 N), h four times, where the
                          path has an instruction for it (`bytes_of`), else i16 (2 N), h twice
13 N           i16 (N)    `BY_WORDS`: the first part's words; otherwise nothing
15 N           u8         1 with h alone
=============  =========  =====================================================================
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lrc_kernels._jit import njit
from lrc_kernels.simd.codes import spread_points, store_low_bytes, stride_2, stride_4
from lrc_kernels.simd.dot import spread_words
from lrc_kernels.simd.math import absolute, largest, max_f32, sum_f32, sum_i32, to_i32
from lrc_kernels.simd.paths import path
from lrc_kernels.simd.tile_dots import bytes_of, words_of
from lrc_kernels.simd.values import (
    first_f32x16,
    load_f32x16,
    load_i8x64,
    load_u8,
    splat_f32x16,
    splat_i32x16,
    store_f32,
    store_i8,
    store_i8x64,
    store_i32x16,
)
from lrc_kernels.simd.word_units import store_words

#: Inputs that share a scale.
GROUP = 64
#: Inputs are padded to a multiple of this.
BLOCK = 256
#: Bits of ``orders``: which forms beyond the plain one are wanted.
LATTICE, BY_TWO, BY_FOUR, TWICE = 1, 2, 4, 8
#: Another one: h alone may do.
SEVEN = 16
#: The plain one for packed codes.
IN_ORDER = 32
#: Whether packed codes are multiplied with 16-bit words.
BY_WORDS = path() == "avx2"

#: From h to l, in N.
LOW = 4
_LARGEST = np.float32(16256)
#: What rounding to 7 bits may cost, as a fraction of the inputs' mean magnitude.
MOST_ROUNDING = np.float32(1 / 32)
_spread = spread_points if path() == "avx512vnni" else spread_words


def padded(n: int) -> int:
    """``n`` rounded up to whole blocks."""
    return -(-n // BLOCK) * BLOCK


def size(n: int) -> int:
    """Bytes of the buffer for ``n`` inputs."""
    return padded(n) * 15 + 64


@njit(inline=True)
def group_scales(act: int, width: int) -> int:
    """Address of the f32 scales, one a group."""
    return act + 2 * LOW * width + width // 4


@njit(inline=True)
def group_sums(act: int, width: int) -> int:
    """Address of the f32 sums of groups times their scales."""
    return group_scales(act, width) + width // 16


@njit(inline=True)
def halves_for(act: int, width: int, bits: int) -> tuple[int, int]:
    """Addresses of h and l in the order of packed codes of so many bits, or of words even and odd.

    That of l, or of odd words, of group g is as far from that of h as with group 0.
    """
    if bits == 4:
        return act + 2 * width, act + (LOW + 2) * width
    if bits == 2:
        return act + 3 * width, act + (LOW + 3) * width
    if BY_WORDS:
        return act + 13 * width, act + 14 * width
    return act, act + LOW * width


@njit(inline=True)
def twice(act: int, width: int) -> int:
    """Address of the inputs as two equal 16-bit numbers each."""
    return act + 9 * width


@njit(inline=True)
def _top(x: int) -> np.float32:
    """Largest magnitude of 64 floats."""
    a, b = absolute(load_f32x16(x)), absolute(load_f32x16(x + 64))
    c, d = absolute(load_f32x16(x + 128)), absolute(load_f32x16(x + 192))
    top: np.float32 = max_f32(largest(largest(a, b), largest(c, d)))
    return top


@njit(inline=True)
def seven(act: int, width: int) -> bool:
    """Whether the buffer holds h alone."""
    return bool(load_u8(act + 15 * width) != 0)


@njit()
def seven_bits_do(x: int, z: int, n: int) -> bool:
    """Whether int8 with a scale for each 64 entries of z f32 (n,) is precise enough.

    ``x``: what z is a rotation of, or z itself. A few huge inputs, which a rotation spreads over
    all of z, widen the steps of rounding for all others, so the error is compared with the mean
    magnitude of x without its largest entries: one of each 16th. Behind its end z must be zero
    up to a multiple of 64.
    """
    total, most = splat_f32x16(np.float32(0)), splat_f32x16(np.float32(0))
    for i in range(0, n, 16):
        magnitudes = absolute(first_f32x16(x + 4 * i, n - i))
        total, most = total + magnitudes, largest(most, magnitudes)
    squares = np.float32(0)
    for g in range(0, n, GROUP):
        top = _top(z + 4 * g)
        squares += np.float32(min(GROUP, n - g)) * top * top
    # The mean square of a rounding error is a twelfth of the squared step.
    limit = np.float32(127) * MOST_ROUNDING * sum_f32(total - most) / np.float32(n)
    return bool(squares <= np.float32(12 * n) * limit * limit)


@njit()
def _split(x: int, inverse: np.float32, high: int, low: int, both: int, alone: bool) -> int:
    """Write the pairs of 64 floats times ``inverse``; return their sum as integers.

    ``both``: where to write them in one piece, for trellises; 0 for nowhere. ``alone``: h alone.
    """
    scale, part = splat_f32x16(inverse), splat_f32x16(np.float32(1 / 128))
    seven_steps = splat_i32x16(np.int32(7))
    total = splat_i32x16(np.int32(0))
    for i in range(4):
        value = load_f32x16(x + 64 * i) * scale
        whole, h = to_i32(value), to_i32(value * part)
        if alone:
            whole = h << seven_steps
        store_low_bytes(high + 16 * i, h)
        store_low_bytes(low + 16 * i, whole - (h << seven_steps))
        total = total + whole
        if both != 0:
            store_i32x16(both + 64 * i, bytes_of(h) if alone else words_of(whole))
    whole_sum: int = sum_i32(total)
    return whole_sum


@njit(inline=True)
def _store_halves(high: Any, low: Any, first: int, second: int) -> None:
    if BY_WORDS:
        store_words(high, low, first, second)
    else:
        store_i8x64(first, high)
        store_i8x64(second, low)


@njit()
def _reorder(act: int, g: int, width: int, orders: int) -> None:
    """The other forms of group g."""
    at = 64 * g
    high, low = load_i8x64(act + at), load_i8x64(act + LOW * width + at)
    if orders & BY_TWO:
        first, second = halves_for(act, width, 4)
        _store_halves(stride_2(high), stride_2(low), first + at, second + at)
    if orders & BY_FOUR:
        first, second = halves_for(act, width, 2)
        _store_halves(stride_4(high), stride_4(low), first + at, second + at)
    if BY_WORDS and orders & IN_ORDER:
        first, second = halves_for(act, width, 8)
        store_words(high, low, first + at, second + at)


@njit()
def quantize(x: int, n: int, width: int, act: int, orders: int, alone: bool) -> np.float32:
    """Fill the buffer ``act`` of ``width`` inputs from f32 (n,) at ``x``; return sum s (128 h + l).

    Up to the next multiple of 64 ``x`` must be readable and zero. ``alone``: with h alone.
    """
    store_i8(act + 15 * width, np.int8(1 if alone else 0))
    total = np.float32(0)
    low = act + LOW * width
    scales = group_scales(act, width)
    for g in range((n + 255) // 256 * 4):
        scale, weighted = np.float32(0), np.float32(0)
        at = act + 64 * g
        both = twice(act, width) + 256 * g if orders & TWICE else 0
        if 64 * g < n:
            top = _top(x + 256 * g)
            scale = top / _LARGEST
            inverse = _LARGEST / top if scale > 0 else np.float32(0)
            weighted = scale * np.float32(
                _split(x + 256 * g, inverse, at, low + 64 * g, both, alone)
            )
            total += weighted
        else:
            _split(x, np.float32(0), at, low + 64 * g, both, alone)
        store_f32(scales + 4 * g, scale)
        store_f32(scales + width // 16 + 4 * g, weighted)
        if orders & LATTICE:
            for i in range(4):
                store_f32(scales - width // 4 + 16 * g + 4 * i, scale)
        _reorder(act, g, width, orders)
    if orders & LATTICE:
        for b in range((n + 255) // 256):
            _spread(act + 256 * b, act + width + 256 * b)
            _spread(low + 256 * b, low + width + 256 * b)
    return total
