"""Threads that never change a result.

Work is cut into fixed chunks, each chunk runs on one thread with single-threaded BLAS, and
results are combined in order; so the bytes depend on the chunks, not on the thread count.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from lrc.errors import SpecError

T = TypeVar("T")
R = TypeVar("R")
#: What tells and what sets the number of threads of one library.
Control = tuple[Callable[[], int], Callable[[int], None]]

# Symbol names of the OpenBLAS builds that NumPy's and SciPy's wheels carry.
_PREFIXES = ("scipy_openblas", "openblas")
_SUFFIXES = ("64_", "_64", "")


def default_threads() -> int:
    """Processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def resolve_threads(threads: int | None) -> int:
    """``threads`` if given and positive, else every processor."""
    if threads is None:
        return default_threads()
    if threads < 1:
        raise SpecError(f"threads={threads} must be at least 1")
    return threads


@cache
def _blas_controls() -> tuple[Control, ...]:
    """Controls of the BLAS libraries in use; none where they are of an unknown kind."""
    return _bundled_controls() or _foreign_controls()


def _bundled() -> Iterator[Any]:
    """The OpenBLAS libraries bundled with NumPy and SciPy."""
    for package in ("numpy", "scipy"):
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        root = Path(spec.origin).parent
        folders = (root.parent / f"{package}.libs", root / ".dylibs")
        for library in (f for d in folders if d.is_dir() for f in sorted(d.iterdir())):
            if "openblas" in library.name:
                yield ctypes.CDLL(str(library))


def _bundled_controls() -> tuple[Control, ...]:
    """Those of the OpenBLAS libraries bundled with NumPy and SciPy."""
    found = (_symbols(library) for library in _bundled())
    return tuple(pair for pair in found if pair is not None)


@cache
def blas_cores() -> tuple[str, ...]:
    """Kinds of processor whose kernels the bundled OpenBLAS libraries use; none without them."""
    found = set()
    for library in _bundled():
        if (name := _function(library, "get_corename")) is not None:
            name.restype = ctypes.c_char_p
            found.add(name().decode())
    return tuple(sorted(found))


def _foreign_controls() -> tuple[Control, ...]:
    """Those of any other BLAS, such as MKL, that threadpoolctl finds where it is installed."""
    try:
        finder: Any = importlib.import_module("threadpoolctl")
    except ImportError:
        return ()
    for module in ("numpy", "scipy.linalg"):  # only what is loaded is found
        importlib.import_module(module)
    found = finder.ThreadpoolController().select(user_api="blas").lib_controllers
    return tuple((one.get_num_threads, one.set_num_threads) for one in found)


def _symbols(library: Any) -> Control | None:
    get, put = (_function(library, f"{verb}_num_threads") for verb in ("get", "set"))
    return None if get is None or put is None else (get, put)


def _function(library: Any, name: str) -> Any:
    """A function of an OpenBLAS library, whatever its build calls it; None where it has none."""
    names = (f"{prefix}_{name}{suffix}" for prefix in _PREFIXES for suffix in _SUFFIXES)
    found = (getattr(library, one, None) for one in names)
    return next((function for function in found if function is not None), None)


def blas_is_controlled() -> bool:
    """Whether the BLAS in use lets its thread count be set from here."""
    return bool(_blas_controls())


class _Holders:
    """How many callers want single-threaded BLAS now, and what to restore after the last."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count = 0
        self.before: list[int] = []


_HOLDERS = _Holders()


@contextlib.contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Run BLAS on the calling thread only, for the duration of the block.

    The setting belongs to the process; callers may overlap, and the last one out restores it.
    """
    with _HOLDERS.lock:
        if _HOLDERS.count == 0:
            _HOLDERS.before = [get() for get, _ in _blas_controls()]
            for _, put in _blas_controls():
                put(1)
        _HOLDERS.count += 1
    try:
        yield
    finally:
        with _HOLDERS.lock:
            _HOLDERS.count -= 1
            if _HOLDERS.count == 0:
                for (_, put), count in zip(_blas_controls(), _HOLDERS.before, strict=True):
                    put(count)


def ordered_map(fn: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Yield ``fn(item)`` in the order of ``items``, computed on up to ``threads`` threads.

    At most ``2 * threads`` results wait to be consumed, so memory stays bounded. The first
    exception cancels what has not started.
    """
    pending = iter(items)
    if threads <= 1:
        with single_threaded_blas():
            for item in pending:
                yield fn(item)
        return
    with single_threaded_blas(), ThreadPoolExecutor(threads) as pool:
        window = []
        try:
            for item in pending:
                window.append(pool.submit(fn, item))
                if len(window) >= 2 * threads:
                    yield window.pop(0).result()
            while window:
                yield window.pop(0).result()
        finally:
            for future in window:
                future.cancel()


def chunks(length: int, size: int) -> list[slice]:
    """Slices of at most ``size`` that cover ``range(length)``; independent of threads."""
    return [slice(i, min(i + size, length)) for i in range(0, length, size)]


def row_tiles(m: int, unit: int = 16, most: int = 512) -> list[slice]:
    """Tiles of about equal height that cover ``m`` rows: multiples of ``unit``, ``most`` at most.

    Four or a multiple of it where there are enough rows, so that few threads share them evenly.
    """
    together = 4 if m >= 256 else 2
    count = together * -(-m // (together * most))
    return chunks(m, -(-m // (count * unit)) * unit)
