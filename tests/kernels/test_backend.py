"""Backends load lazily, are complete, and say why one is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lrc_kernels.backend import get_kernels
from lrc_kernels.contract import KernelSet
from lrc_kernels.gpu.device import cupy


@pytest.mark.parametrize("name", ["cpu", "reference"])
def test_every_kernel_is_documented_and_cached(name):
    kernels = get_kernels(name)
    assert isinstance(kernels, KernelSet)
    assert kernels is get_kernels(name)
    for field, kernel in kernels._asdict().items():
        assert kernel.__name__ == field
        assert kernel.__doc__


def test_every_kernel_is_part_of_the_contract_page():
    for field in KernelSet._fields:
        assert field in (KernelSet.__doc__ or "")


def test_missing_and_unknown_backends(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    cupy.cache_clear()
    with pytest.raises(RuntimeError, match="CuPy cannot be imported"):
        get_kernels("gpu")
    with pytest.raises(ValueError, match="'tpu' is unknown"):
        get_kernels("tpu")


def test_importing_the_package_loads_no_compiler():
    code = (
        "import sys, lrc_kernels.backend, lrc_kernels.contract, lrc_kernels.rotate; "
        "sys.exit(any(m.split('.')[0] in ('numba', 'llvmlite', 'cupy') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
