"""Packed codes of 2 to 8 bits as bytes."""

from __future__ import annotations

from typing import Any

from lrc_kernels._jit import njit
from lrc_kernels.simd.units import UNITS
from lrc_kernels.simd.values import store_i8x64


def _make_expand(bits: int) -> Any:
    """Codes of a row of ``size`` bytes as bytes, in whole 64s, to ``out``."""
    unit, part_of_unit = UNITS[bits]
    step = 8 * bits

    @njit(inner=True)
    def expand_row(words: int, size: int, units: int, out: int) -> None:
        for u in range(units):
            left = size - step * u
            if left >= step:
                codes = unit(words + step * u)
            else:
                codes = part_of_unit(words + step * u, min(left, step))
            store_i8x64(out + 64 * u, codes)

    return expand_row


_expand_2, _expand_3, _expand_4, _expand_5 = (_make_expand(bits) for bits in (2, 3, 4, 5))
_expand_6, _expand_7, _expand_8 = (_make_expand(bits) for bits in (6, 7, 8))


@njit()
def expand(bits: int, words: int, size: int, units: int, out: int) -> None:
    """Write a row of ``size`` bytes of packed codes as bytes, in whole 64s.

    Codes of 2 and 4 bits come out strided within each 64, others in order.
    """
    if bits == 2:
        _expand_2(words, size, units, out)
    elif bits == 3:
        _expand_3(words, size, units, out)
    elif bits == 4:
        _expand_4(words, size, units, out)
    elif bits == 5:
        _expand_5(words, size, units, out)
    elif bits == 6:
        _expand_6(words, size, units, out)
    elif bits == 7:
        _expand_7(words, size, units, out)
    else:
        _expand_8(words, size, units, out)
