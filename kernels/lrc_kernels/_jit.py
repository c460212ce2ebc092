"""The only call of ``numba.njit``: one place for the compilation policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

F = TypeVar("F", bound=Callable[..., object])


def njit(*, fastmath: bool = False, inline: bool = False) -> Callable[[F], F]:
    """Compile with the house defaults: cached on disk, GIL released, NumPy error model.

    ``fastmath`` makes ``isnan`` always false: never use it where codes are chosen or
    finiteness is checked. ``inline`` inlines at LLVM level by hinting, not at Numba level.
    """

    def decorate(fn: F) -> F:
        jitted = numba.njit(
            cache=True,
            nogil=True,
            error_model="numpy",
            fastmath=fastmath,
            forceinline=inline,
        )(fn)
        return cast(F, jitted)

    return decorate
