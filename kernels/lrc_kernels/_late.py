"""Kernels that compiled code calls by address: of many of a kind those asked for are compiled.

A loop over a whole model meets every codebook that there is, and compiling them all takes longer
than answering the first question. Those that a model has are compiled by themselves when it is
laid out, and kept on disk by themselves; the loop finds their addresses in its tables.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from llvmlite import ir
from numba.core import types

from lrc_kernels._jit import njit
from lrc_kernels.simd.values import operation, pointer

_VALUES = {
    types.intp: ir.IntType(64), types.int32: ir.IntType(32), types.float32: ir.FloatType()
}  # fmt: skip


class Late:
    """Kernels of one signature, each made of a key of integers.

    Parameters
    ----------
    kinds
        Numba types of their arguments: intp, int32 or float32. They return nothing.
    make
        ``make(*key)`` is the function to compile.
    """

    def __init__(self, kinds: Sequence[Any], make: Callable[..., Any]) -> None:
        self._kinds, self._make = tuple(kinds), make
        self.kernel = cache(self._kernel)
        self.call = _caller(self._kinds)

    def _kernel(self, *key: int) -> Any:
        """``kernel(*key)``: what Python calls."""
        fn = self._make(*key)
        # What the linker and the cache on disk tell kernels apart by.
        fn.__qualname__ = "_".join([self._make.__name__, *map(str, key)])
        kernel: Any = njit(made=True)(fn)
        kernel.compile(self._kinds)
        return kernel

    def address(self, *key: int) -> int:
        """What compiled code gives ``call`` before the arguments; nothing frees it."""
        (compiled,) = self.kernel(*key).overloads.values()
        name = compiled.fndesc.llvm_cfunc_wrapper_name
        return int(compiled.library.get_pointer_to_function(name))


def late(*kinds: Any) -> Callable[[Callable[..., Any]], Late]:
    """Make a function that makes kernels the `Late` of them."""
    return lambda make: Late(kinds, make)


def _caller(kinds: Sequence[Any]) -> Any:
    values = [_VALUES[kind] for kind in kinds]

    @operation(types.void, types.intp, *kinds)
    def call_late(builder: Any, address: Any, *arguments: Any) -> None:
        kind = ir.FunctionType(ir.IntType(8).as_pointer(), values)
        builder.call(pointer(builder, address, kind), arguments)

    return call_late
