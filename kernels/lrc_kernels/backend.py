"""Backend name to :class:`~lrc_kernels.contract.KernelSet`, loaded on first use."""

from __future__ import annotations

from functools import cache

from lrc_kernels.contract import KernelSet

BACKENDS = ("cpu", "reference", "gpu")


@cache
def get_kernels(name: str = "cpu") -> KernelSet:
    """Return the kernels of one backend; compilation happens at each kernel's first call.

    Parameters
    ----------
    name
        ``"cpu"`` (Numba), ``"gpu"`` (CuPy) or ``"reference"`` (plain NumPy, for tests).

    Raises
    ------
    RuntimeError
        For ``"gpu"``: CuPy is not installed, or finds no device.
    ValueError
        For a name that is not in :data:`BACKENDS`.
    """
    if name == "cpu":
        from lrc_kernels.cpu.kernels import KERNELS as CPU_KERNELS

        return CPU_KERNELS
    if name == "reference":
        from lrc_kernels.reference import KERNELS as REFERENCE_KERNELS

        return REFERENCE_KERNELS
    if name == "gpu":
        from lrc_kernels.gpu.device import cupy
        from lrc_kernels.gpu.kernels import KERNELS as GPU_KERNELS

        cupy()
        return GPU_KERNELS
    raise ValueError(f"backend {name!r} is unknown; use one of {', '.join(BACKENDS)}")
