"""Vector values inside compiled kernels: the one home of LLVM types and intrinsics.

:class:`Vector` is a Numba type held in a vector register. A kernel written with it reads like
scalar code: ``acc = dot_u8(acc, weights, load_i8x64(address))``. Memory is named by integer
addresses, so that arrays of a memory-mapped file can be listed in one table. Values never reach
Python. For which instructions kernels are compiled is decided in :mod:`lrc_kernels.simd.paths`.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

from lrc_kernels.simd.paths import path

_ELEMENTS: dict[str, ir.Type] = {
    "i1": ir.IntType(1),
    "i8": ir.IntType(8),
    "i16": ir.IntType(16),
    "i32": ir.IntType(32),
    "f32": ir.FloatType(),
}
_I32 = ir.IntType(32)


class Vector(types.Type):
    """``lanes`` elements of one kind in a register."""

    def __init__(self, element: str, lanes: int) -> None:
        self.element, self.lanes = element, lanes
        super().__init__(name=f"{element}x{lanes}")

    @property
    def ir(self) -> ir.VectorType:
        """The LLVM type."""
        return ir.VectorType(_ELEMENTS[self.element], self.lanes)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, vector.ir)  # type: ignore[no-untyped-call]


I8X64, I16X32, I32X16 = Vector("i8", 64), Vector("i16", 32), Vector("i32", 16)
I8X32, I8X16, I16X16 = Vector("i8", 32), Vector("i8", 16), Vector("i16", 16)
F32X16 = Vector("f32", 16)


# Operators between two vectors of one type; comparisons give a mask for `select`.
def _binary(op: Callable[..., Any], integer: str | None, floating: str | None) -> None:
    @infer_global(op)  # type: ignore[no-untyped-call]
    class _Typing(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and isinstance(args[0], Vector) and args[0] == args[1]:
                return signature(args[0], *args)  # type: ignore[no-untyped-call]
            return None

    @lower_builtin(op, Vector, Vector)  # type: ignore[untyped-decorator,no-untyped-call]
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        name = floating if sig.return_type.element == "f32" else integer
        if name is None:
            raise NotImplementedError(f"{op.__name__} of {sig.return_type}")
        return getattr(builder, name)(*args)


_binary(operator.add, "add", "fadd")
_binary(operator.sub, "sub", "fsub")
_binary(operator.mul, "mul", "fmul")
_binary(operator.truediv, None, "fdiv")
_binary(operator.and_, "and_", None)
_binary(operator.or_, "or_", None)
_binary(operator.xor, "xor", None)
_binary(operator.lshift, "shl", None)
_binary(operator.rshift, "lshr", None)


def constant(vector: Vector, values: list[int]) -> ir.Constant:
    """An IR vector with these lanes."""
    return ir.Constant(vector.ir, values)


def shuffle(builder: Any, a: Any, b: Any, mask: list[int]) -> Any:
    """Lanes of ``a`` and ``b`` picked by a constant mask."""
    lanes = ir.Constant(ir.VectorType(_I32, len(mask)), mask)
    return builder.shuffle_vector(a, b, lanes)


def call(builder: Any, name: str, result: ir.Type, args: list[Any]) -> Any:
    """Call an LLVM intrinsic by its full name."""
    kind = ir.FunctionType(result, [a.type for a in args])
    return builder.call(_declare(builder, name, kind), args)


def _declare(builder: Any, name: str, kind: ir.FunctionType) -> Any:
    found = builder.module.globals.get(name)
    return found if found is not None else ir.Function(builder.module, kind, name)


def pointer(builder: Any, address: Any, pointee: ir.Type) -> Any:
    """The address as a typed pointer."""
    return builder.inttoptr(address, pointee.as_pointer())


Emit = Callable[..., Any]


def operation(result: Any, *params: Any) -> Callable[[Emit], Any]:
    """Make ``emit(builder, *values)`` a function that kernels can call, with these types."""

    def typed(emit: Emit) -> tuple[Any, Any]:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            value = emit(builder, *args)
            return context.get_dummy_value() if value is None else value

        return result(*params), codegen

    def decorate(emit: Emit) -> Any:
        made = typed(emit)

        def form(typingctx: Any, *values: Any) -> tuple[Any, Any]:
            return made

        # Numba takes no function of any number of arguments here, so this names them.
        names = ("typingctx", *(f"x{i}" for i in range(len(params))))
        form.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in names]
        )
        form.__name__, form.__doc__ = emit.__name__, emit.__doc__
        return intrinsic(form)

    return decorate


def splat(builder: Any, vector: Vector, value: Any) -> Any:
    """The same value in every lane."""
    empty = ir.Constant(vector.ir, ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(_I32, 0))
    return shuffle(builder, first, empty, [0] * vector.lanes)


def _make_load(vector: Vector) -> Any:
    @operation(vector, types.intp)
    def load(builder: Any, address: Any) -> Any:
        return builder.load(pointer(builder, address, vector.ir), align=1)

    return load


def _make_first(vector: Vector) -> Any:
    """Masked load: the first ``count`` lanes; the others are zero and never touched."""
    element = "f32" if vector.element == "f32" else vector.element

    @operation(vector, types.intp, types.intp)
    def load_first(builder: Any, address: Any, count: Any) -> Any:
        name = f"llvm.masked.load.v{vector.lanes}{element}.p0"
        place = pointer(builder, address, vector.ir)
        mask = first_lanes(builder, count, vector.lanes)
        parts = [place, ir.Constant(_I32, 1), mask, ir.Constant(vector.ir, None)]
        if path() == "avx512vnni":
            return call(builder, name, vector.ir, parts)
        # Others mostly load lane by lane, which all lanes do not need.
        every = builder.icmp_signed(">=", count, ir.Constant(count.type, vector.lanes))
        with builder.if_else(every) as (then, otherwise):
            with then:
                whole, first = builder.load(place, align=1), builder.block
            with otherwise:
                some, second = call(builder, name, vector.ir, parts), builder.block
        found = builder.phi(vector.ir)
        found.add_incoming(whole, first)
        found.add_incoming(some, second)
        return found

    return load_first


def _make_splat(vector: Vector, scalar: Any) -> Any:
    @operation(vector, scalar)
    def splat_lanes(builder: Any, value: Any) -> Any:
        return splat(builder, vector, value)

    return splat_lanes


def _make_store(vector: Vector) -> Any:
    @operation(types.void, types.intp, vector)
    def store_lanes(builder: Any, address: Any, value: Any) -> None:
        builder.store(value, pointer(builder, address, vector.ir), align=1)

    return store_lanes


def _make_store_first(vector: Vector) -> Any:
    """Masked store: the first ``count`` lanes; what lies behind them is never touched."""

    @operation(types.void, types.intp, vector, types.intp)
    def store_first(builder: Any, address: Any, value: Any, count: Any) -> None:
        name = f"llvm.masked.store.v{vector.lanes}{vector.element}.p0"
        place = pointer(builder, address, vector.ir)
        every = builder.icmp_signed(">=", count, ir.Constant(count.type, vector.lanes))
        with builder.if_else(every) as (then, otherwise):
            with then:
                builder.store(value, place, align=1)
            with otherwise:
                mask = first_lanes(builder, count, vector.lanes)
                call(builder, name, ir.VoidType(), [value, place, ir.Constant(_I32, 1), mask])

    return store_first


def first_lanes(builder: Any, count: Any, lanes: int) -> Any:
    """Mask of the lanes below ``count``."""
    wide = Vector("i32", lanes)
    return builder.icmp_signed(
        "<", constant(wide, list(range(lanes))), splat(builder, wide, builder.trunc(count, _I32))
    )


load_i8x64, load_i16x32 = _make_load(I8X64), _make_load(I16X32)
load_i32x16, load_f32x16 = _make_load(I32X16), _make_load(F32X16)
load_i8x32 = _make_load(I8X32)
first_i8x32, first_i16x32 = _make_first(I8X32), _make_first(I16X32)
first_i8x64, first_i16x16 = _make_first(I8X64), _make_first(I16X16)
first_f32x16 = _make_first(F32X16)
store_i8x64, store_i16x32 = _make_store(I8X64), _make_store(I16X32)
store_i32x16, store_f32x16 = _make_store(I32X16), _make_store(F32X16)
store_first_f32x16 = _make_store_first(F32X16)
splat_i8x64, splat_i16x32 = _make_splat(I8X64, types.int8), _make_splat(I16X32, types.int16)
splat_i32x16 = _make_splat(I32X16, types.int32)
splat_f32x16 = _make_splat(F32X16, types.float32)


def _make_cast(vector: Vector, origin: Vector) -> Any:
    @operation(vector, origin)
    def cast(builder: Any, value: Any) -> Any:
        return builder.bitcast(value, vector.ir)

    return cast


bytes_of_i16 = _make_cast(I8X64, I16X32)
i16_of_bytes = _make_cast(I16X32, I8X64)


def _make_where(vector: Vector) -> Any:
    """Lane by lane: ``a`` where ``bits`` is not zero, else ``b``."""

    @operation(vector, vector, vector, vector)
    def where_bits(builder: Any, bits: Any, a: Any, b: Any) -> Any:
        mask = builder.icmp_unsigned("!=", bits, ir.Constant(vector.ir, None))
        return builder.select(mask, a, b)

    return where_bits


where_i8, where_i16 = _make_where(I8X64), _make_where(I16X32)


def _make_scalar_load(result: Any, stored: ir.Type) -> Any:
    @operation(result, types.intp)
    def load_scalar(builder: Any, address: Any) -> Any:
        value = builder.load(pointer(builder, address, stored), align=1)
        narrow = result == types.intp and stored.width < 64
        return builder.zext(value, ir.IntType(64)) if narrow else value

    return load_scalar


load_u8, load_u16 = (_make_scalar_load(types.intp, ir.IntType(b)) for b in (8, 16))
load_f32 = _make_scalar_load(types.float32, ir.FloatType())
load_i16 = _make_scalar_load(types.int16, ir.IntType(16))
load_i8 = _make_scalar_load(types.int8, ir.IntType(8))
load_i64 = _make_scalar_load(types.intp, ir.IntType(64))


def _make_scalar_store(kind: Any, stored: ir.Type) -> Any:
    @operation(types.void, types.intp, kind)
    def store_scalar(builder: Any, address: Any, value: Any) -> None:
        builder.store(value, pointer(builder, address, stored), align=1)

    return store_scalar


store_f32 = _make_scalar_store(types.float32, ir.FloatType())
store_i8 = _make_scalar_store(types.int8, ir.IntType(8))
store_i16 = _make_scalar_store(types.int16, ir.IntType(16))
