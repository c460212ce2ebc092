"""The only call of ``numba.njit``: one place for the compilation policy."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numba.core.caching import FunctionCache, IndexDataCacheFile

from lrc_kernels._inner import InnerCompiler, KernelCompiler
from lrc_kernels.stamp import source_stamp

F = TypeVar("F", bound=Callable[..., object])


def njit(
    *, fastmath: bool = False, inline: bool = False, inner: bool = False, made: bool = False
) -> Callable[[F], F]:
    """Compile with the house defaults: cached on disk, GIL released, NumPy error model.

    ``fastmath`` makes ``isnan`` always false: never use it where codes are chosen or
    finiteness is checked. ``inline`` inlines at LLVM level by hinting, not at Numba level.
    Such helpers, and those that are ``inner``, are called by compiled code alone: they get no
    wrappers, and are cached as part of their callers only. Nothing is cached while LRC_SIMD
    forces a path, which the cache could not tell from the usual one, nor where no directory can be
    written, which a warning tells once. ``made``: the function is made of numbers that its
    qualified name ends in, and of nothing else; the cache tells it by its name alone.
    """
    bare = inline or inner
    keep = not bare and not os.environ.get("LRC_SIMD")

    def compiled(fn: F, bare: bool) -> Any:
        return numba.njit(  # type: ignore[call-overload]  # its stubs lack the last four
            nogil=True,
            error_model="numpy",
            fastmath=fastmath,
            forceinline=inline,
            no_cpython_wrapper=bare,
            no_cfunc_wrapper=bare,
            pipeline_class=InnerCompiler if bare else KernelCompiler,
        )(fn)

    def decorate(fn: F) -> F:
        jitted = compiled(fn, bare)
        if not bare:
            # Compiled code calls another form of it, see `_inner`.
            linked = compiled(fn, True)
            jitted.get_call_template = linked.get_call_template
            jitted.get_overload = linked.get_overload
        if keep:
            try:
                jitted._cache = (_NamedCache if made else _Cache)(fn)
            except RuntimeError:
                _warn_unkept("no directory for them can be written")
        return cast(F, jitted)

    return decorate


def constant(value: int) -> int:
    """A number to call compiled code with from compiled code.

    Numba compiles a function once more for every plain integer that it is called with there.
    """
    return cast(int, np.int64(value))


def choose(table: Mapping[int, Callable[..., object]]) -> Callable[..., Any]:
    """``f(number, *arguments)`` for compiled code: calls what the table has under ``number``.

    The last one is called under any other number.
    """
    (number, chosen), *rest = table.items()
    if not rest:

        @njit(inline=True)
        def call(wanted: int, *arguments: object) -> object:
            return chosen(*arguments)

        return call
    others = choose(dict(rest))

    @njit(inline=True)
    def call_one(wanted: int, *arguments: object) -> object:
        if wanted == number:
            return chosen(*arguments)
        return others(wanted, *arguments)

    return call_one


class _Files(IndexDataCacheFile):
    """Files of a kernel's cache, each called after what it is for.

    Numba counts them, so two processes at a time could give two forms of a kernel one file.
    """

    def save(self, key: object, data: object) -> None:
        """Keep ``data``, then note that it is kept."""
        named = repr((self._version, self._source_stamp, key)).encode()
        number = int.from_bytes(hashlib.sha256(named).digest()[:8])
        name = self._data_name(number)  # type: ignore[no-untyped-call]
        self._save_data(name, data)  # type: ignore[no-untyped-call]
        known = self._load_index()  # type: ignore[no-untyped-call]
        self._save_index(known | {key: name})  # type: ignore[no-untyped-call]


class _Cache(FunctionCache):
    """Numba's cache on disk, but current only while no source of this package changes.

    Numba itself looks at a kernel's own file alone, and not at those of its helpers.
    """

    def __init__(self, fn: Callable[..., object]) -> None:
        super().__init__(fn)  # type: ignore[no-untyped-call]
        base = self._impl.filename_base
        stamp = source_stamp()
        self._cache_file = _Files(self._cache_path, base, stamp)  # type: ignore[no-untyped-call]

    def save_overload(self, sig: object, data: object) -> None:
        """Keep what was compiled, or say why that cannot be."""
        try:
            super().save_overload(sig, data)  # type: ignore[no-untyped-call]
        except OSError as error:
            _warn_unkept(error.strerror or str(error))

    def holds_any(self, magic: object) -> bool:
        """Whether anything compiled for a machine of this kind is kept, and current."""
        index = self._cache_file._load_index()  # type: ignore[no-untyped-call]
        return any(key[1] == magic for key in index)


class _NamedCache(_Cache):
    """The same for a function that its name tells: what it refers to has no stable form."""

    def _index_key(self, sig: object, codegen: Any) -> tuple[object, ...]:
        return sig, codegen.magic_tuple()


def is_ready(kernel: object) -> bool:
    """Whether ``kernel`` is compiled in this process."""
    return bool(kernel.signatures)  # type: ignore[attr-defined]


def is_cached(kernel: object) -> bool:
    """Whether the cache holds compiled code of ``kernel``; False where it cannot be told."""
    try:
        magic = kernel.targetctx.codegen().magic_tuple()  # type: ignore[attr-defined]
        return bool(kernel._cache.holds_any(magic))  # type: ignore[attr-defined]
    except Exception:  # Numba's internals moved, or nothing was ever cached
        return False


@cache
def _warn_unkept(why: str) -> None:
    warnings.warn(
        f"compiled kernels cannot be kept ({why}), so every process compiles those it needs, "
        "which takes up to minutes; set NUMBA_CACHE_DIR to a directory that can be written",
        RuntimeWarning,
        stacklevel=2,
    )
