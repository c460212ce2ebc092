"""The only call of ``numba.njit``: one place for the compilation policy."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

import numba
import numpy as np

F = TypeVar("F", bound=Callable[..., object])


def njit(*, fastmath: bool = False, inline: bool = False, inner: bool = False) -> Callable[[F], F]:
    """Compile with the house defaults: cached on disk, GIL released, NumPy error model.

    ``fastmath`` makes ``isnan`` always false: never use it where codes are chosen or
    finiteness is checked. ``inline`` inlines at LLVM level by hinting, not at Numba level.
    Such helpers, and those that are ``inner``, are called by compiled code alone: they get no
    wrappers, and are cached as part of their callers only. Nothing is cached while LRC_SIMD
    forces a path, which the cache could not tell from the usual one.
    """
    bare = inline or inner
    keep = not bare and not os.environ.get("LRC_SIMD")

    def decorate(fn: F) -> F:
        jitted = numba.njit(  # type: ignore[call-overload]  # its stubs lack the last two
            cache=keep,
            nogil=True,
            error_model="numpy",
            fastmath=fastmath,
            forceinline=inline,
            no_cpython_wrapper=bare,
            no_cfunc_wrapper=bare,
        )(fn)
        return cast(F, jitted)

    return decorate


def constant(value: int) -> int:
    """A number to call compiled code with from compiled code.

    Numba compiles a function once more for every plain integer that it is called with there.
    """
    return cast(int, np.int64(value))


@cache
def source_stamp() -> int:
    """A number, never 0, that changes with any source file of this package.

    Numba's cache notices edits of a kernel's own file alone. A kernel with helpers in other
    files closes over this number, which makes it part of the cache's key.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest()[:7], "little") | 1


def kept_on_disk(kernel: object) -> bool:
    """Whether the cache holds compiled code of ``kernel``; False where it cannot be told."""
    try:
        cached = kernel._cache._cache_file  # type: ignore[attr-defined]
        return any(key[2][1] == _closure_hash(kernel) for key in cached._load_index())
    except Exception:  # Numba's internals moved, or nothing was ever cached
        return False


def _closure_hash(kernel: object) -> str:
    from numba.core.serialize import dumps

    cells = tuple(c.cell_contents for c in kernel.py_func.__closure__)  # type: ignore[attr-defined]
    return hashlib.sha256(dumps(cells)).hexdigest()  # type: ignore[no-untyped-call]
