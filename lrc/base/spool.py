"""Arrays that lie in files instead of memory, and where those of a computation may lie.

Pages of such an array are in memory while they are used, and are given back by `Spool.rest`: then
the system writes them out when it wants their place. Values never change by it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass
class Spool:
    """Makes arrays in files of a folder; they have no name, and go with the arrays.

    ``written`` counts bytes of all that were made.
    """

    folder: Path
    written: int = 0
    _maps: weakref.WeakValueDictionary[int, mmap.mmap] = field(
        default_factory=weakref.WeakValueDictionary, repr=False
    )

    def copy(self, values: Array) -> Array:
        """The same values in a file of their own, in C order.

        Raises
        ------
        OSError
            The disk has no room for it.
        """
        if values.size == 0:
            return np.ascontiguousarray(values)
        size = values.nbytes
        with tempfile.TemporaryFile(dir=self.folder) as file:
            if hasattr(os, "posix_fallocate"):  # a page that has no room would end the process
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            mapped = mmap.mmap(file.fileno(), size)
        made: Array = np.frombuffer(mapped, values.dtype).reshape(values.shape)
        np.copyto(made, values)
        self.written += size
        self._maps[_address(made)] = mapped
        return made

    def rest(self, arrays: Iterable[NDArray[Any]]) -> None:
        """Give back the memory of arrays that were made here; what they hold stays.

        Without effect on other arrays, and where the platform offers no such advice.
        """
        if not hasattr(mmap, "MADV_DONTNEED"):
            return
        for array in arrays:
            mapped = self._maps.get(_address(array))
            if mapped is not None:
                mapped.madvise(mmap.MADV_DONTNEED)


def _address(array: NDArray[Any]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


@dataclass(frozen=True)
class MemoryUse:
    """How a computation may use memory; nothing of it changes a result.

    ``spool`` is where activations lie, None: in memory. ``side_by_side``: several matrices may be
    worked on at the same time.
    """

    spool: Spool | None = None
    side_by_side: bool = True


_FREELY = MemoryUse()
_USE: ContextVar[MemoryUse] = ContextVar("memory_use", default=_FREELY)


def memory_use() -> MemoryUse:
    """What holds here; freely used memory unless told."""
    return _USE.get()


@contextlib.contextmanager
def using_memory(use: MemoryUse) -> Iterator[None]:
    """Use memory like that for the duration of the block."""
    token = _USE.set(use)
    try:
        yield
    finally:
        _USE.reset(token)
