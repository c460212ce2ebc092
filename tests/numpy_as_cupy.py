"""NumPy in CuPy's place, where what is done with a device's answers is tested without one."""

from __future__ import annotations

import contextlib
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import scipy.linalg

from lrc_kernels.gpu import device


class DriverError(Exception):
    """What CuPy raises where the driver does not answer."""


class There(np.ndarray):
    """An array that is not the host's until it is fetched."""

    def get(self) -> Any:
        return np.array(self)


def fake_cupy(count: int | None = 1) -> SimpleNamespace:
    """So many devices; None: a driver that does not answer."""

    def devices() -> int:
        if count is None:
            raise DriverError("driver version is insufficient")
        return count

    runtime = SimpleNamespace(
        getDeviceCount=devices,
        getDeviceProperties=lambda number: {"name": b"NumPy"},
        CUDARuntimeError=DriverError,
    )
    return SimpleNamespace(
        cuda=SimpleNamespace(runtime=runtime, Device=lambda: SimpleNamespace(id=0)),
        asarray=lambda x: np.array(x).view(There),
        arange=np.arange,
        linalg=SimpleNamespace(
            cholesky=lambda H: scipy.linalg.cholesky(H.T, lower=True).view(There)
        ),
    )


def stand_in(monkeypatch: Any, module: object) -> None:
    """Let ``import cupy`` find a module, or nothing (None)."""
    cupyx = ModuleType("cupyx")
    cupyx.errstate = lambda linalg: contextlib.nullcontext()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cupy", module)
    monkeypatch.setitem(sys.modules, "cupyx", cupyx)
    device.cupy.cache_clear()
