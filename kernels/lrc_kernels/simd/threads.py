"""What a kernel needs besides arithmetic: its stack, counters that threads share, waiting."""

from __future__ import annotations

import sys
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from lrc_kernels.simd import neon
from lrc_kernels.simd.paths import path
from lrc_kernels.simd.values import (
    call,
    operation,
    pointer,
)

_I32, _I64 = ir.IntType(32), ir.IntType(64)


def _make_scratch(size: int) -> Any:
    @operation(types.intp)
    def scratch(builder: Any) -> Any:
        place = cgutils.alloca_once(  # type: ignore[no-untyped-call]
            builder, ir.ArrayType(ir.IntType(8), size)
        )
        place.align = 64
        return builder.ptrtoint(place, _I64)

    return scratch


#: Addresses of so many bytes of this call's stack.
scratch_256, scratch_1k = _make_scratch(256), _make_scratch(1024)


@operation(types.void)
def align_stack(builder: Any) -> None:
    """Let vectors that registers have no place for lie within cache lines.

    LLVM aligns a stack for what it knows of before it allots registers: here for 64 bytes that
    nothing uses, whose address an empty instruction takes.
    """
    place = cgutils.alloca_once(  # type: ignore[no-untyped-call]
        builder, ir.ArrayType(ir.IntType(8), 64)
    )
    place.align = 64
    address = builder.ptrtoint(place, _I64)
    builder.asm(ir.FunctionType(ir.VoidType(), [_I64]), "", "r", [address], side_effect=True)


@operation(types.void, types.intp)
def fetch(builder: Any, address: Any) -> None:
    """Ask for the cache line at an address, which need not be readable."""
    place = pointer(builder, address, ir.IntType(8))
    read, near, data = (ir.Constant(_I32, v) for v in (0, 3, 1))
    call(builder, "llvm.prefetch.p0", ir.VoidType(), [place, read, near, data])


@operation(types.intp, types.intp)
def arrive(builder: Any, address: Any) -> Any:
    """Add one to the counter atomically; return its value before."""
    return builder.atomic_rmw(
        "add", pointer(builder, address, _I64), ir.Constant(_I64, 1), "seq_cst"
    )


@operation(types.intp, types.intp)
def look(builder: Any, address: Any) -> Any:
    """Read the counter atomically."""
    return builder.load_atomic(pointer(builder, address, _I64), "seq_cst", 8)


@operation(types.intp, types.intp, types.intp)
def settle(builder: Any, address: Any, value: Any) -> Any:
    """Write ``value`` where 0 is, atomically; return what was there before, 0 if it is written."""
    place, zero = pointer(builder, address, _I64), ir.Constant(_I64, 0)
    pair = builder.cmpxchg(place, zero, value, "seq_cst", "seq_cst")
    return builder.extract_value(pair, 0)


@operation(types.void)
def relax(builder: Any) -> None:
    """Tell the core that this is a waiting loop."""
    if path() == "neon":
        neon.pause(builder)
    elif path() != "generic":
        call(builder, "llvm.x86.sse2.pause", ir.VoidType(), [])


@operation(types.void)
def give_way(builder: Any) -> None:
    """Let another thread of the machine run."""
    if sys.platform == "win32":
        call(builder, "SwitchToThread", _I32, [])
    else:
        call(builder, "sched_yield", _I32, [])
