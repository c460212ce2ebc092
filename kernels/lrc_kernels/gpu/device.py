"""CuPy and the device, found or missed in one sentence; CUDA sources compiled for it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

#: Floats are rounded after every operation, as on the CPU.
_OPTIONS = ("-std=c++17", "--fmad=false")


@cache
def cupy() -> Any:
    """The module, once it has found a device.

    Raises
    ------
    RuntimeError
        CuPy is not installed, or there is no device that it can use.
    """
    try:
        import cupy as found
    except ImportError as error:
        raise RuntimeError(f"CuPy cannot be imported ({error}); install the extra cuda") from None
    try:
        count = found.cuda.runtime.getDeviceCount()
    except found.cuda.runtime.CUDARuntimeError as error:
        raise RuntimeError(f"CuPy finds no CUDA device ({error})") from None
    if count == 0:
        raise RuntimeError("CuPy finds no CUDA device")
    return found


def device_name() -> str:
    """What the device in use calls itself."""
    properties = cupy().cuda.runtime.getDeviceProperties(cupy().cuda.Device().id)
    return str(properties["name"].decode())


def compiled(file: str, **constants: int | str) -> Any:
    """The module of a CUDA source beside this file, with its constants."""
    defined = tuple(f"-D{name}={value}" for name, value in constants.items())
    source = Path(__file__).with_name(file).read_text(encoding="utf-8")
    return cupy().RawModule(code=source, options=(*_OPTIONS, *defined))
