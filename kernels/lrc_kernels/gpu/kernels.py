"""The CUDA backend, assembled."""

from __future__ import annotations

from lrc_kernels.contract import KernelSet
from lrc_kernels.gpu import codes

KERNELS = KernelSet(**{name: getattr(codes, name) for name in KernelSet._fields})
