"""Rows of small signed integers, a byte each or two in one, as vectors of 16."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types

from lrc_kernels.simd.values import F32X16, I8X16, I32X16, constant, operation, pointer


def _bytes(builder: Any, address: Any) -> Any:
    """16 bytes as integers, with their signs."""
    value = builder.load(pointer(builder, address, I8X16.ir), align=1)
    return builder.sext(value, I32X16.ir)


@operation(F32X16, types.intp)
def load_bytes(builder: Any, address: Any) -> Any:
    """16 bytes as floats."""
    return builder.sitofp(_bytes(builder, address), F32X16.ir)


@operation(F32X16, types.intp)
def load_low(builder: Any, address: Any) -> Any:
    """The low halves of 16 bytes as floats from -8 to 7."""
    up = constant(I32X16, [28] * 16)
    value = builder.ashr(builder.shl(_bytes(builder, address), up), up)
    return builder.sitofp(value, F32X16.ir)


@operation(F32X16, types.intp)
def load_high(builder: Any, address: Any) -> Any:
    """The high halves likewise."""
    value = builder.ashr(_bytes(builder, address), constant(I32X16, [4] * 16))
    return builder.sitofp(value, F32X16.ir)


@operation(types.void, types.intp, I32X16)
def store_bytes(builder: Any, address: Any, value: Any) -> None:
    """16 integers from -128 to 127, a byte each."""
    builder.store(builder.trunc(value, I8X16.ir), pointer(builder, address, I8X16.ir), align=1)


@operation(types.void, types.intp, I32X16, I32X16)
def store_halves(builder: Any, address: Any, low: Any, high: Any) -> None:
    """Two times 16 integers from -8 to 7, in the low and the high halves of 16 bytes."""
    kept = builder.and_(low, ir.Constant(I32X16.ir, [15] * 16))
    both = builder.or_(kept, builder.shl(high, constant(I32X16, [4] * 16)))
    builder.store(builder.trunc(both, I8X16.ir), pointer(builder, address, I8X16.ir), align=1)
