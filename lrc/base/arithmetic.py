"""What of a machine decides how sums are rounded, and how that is made the same on others.

Kernels of this package give the same bits on every path and processor: no operation of theirs may
be reordered or contracted. What differs between processors is which of its kernels OpenBLAS takes
for products and factorisations, whose sums have orders of their own, and which of its loops NumPy
takes, whose exponentials differ in a last bit. Both read environment variables when they are
loaded. The portable arithmetic is that of AVX2 with fused multiplication on x86-64, and that of
plain ARMv8 on 64-bit ARM. Processors of both kinds still differ from one another, and so may other
versions of NumPy, SciPy or the C library.
"""

from __future__ import annotations

import importlib
import os
import platform
from typing import Any

from lrc.base.threads import blas_cores, blas_is_controlled
from lrc.errors import SpecError

#: OpenBLAS kernels by kind of processor.
CORES = {"x86_64": "Haswell", "aarch64": "ARMV8"}
#: NumPy's names of what the portable arithmetic may use, by the versions that have them.
_ALLOWED = {
    "x86_64": {
        *("SSE", "SSE2", "SSE3", "SSSE3", "SSE41", "POPCNT", "SSE42", "AVX", "F16C", "FMA3"),
        *("AVX2", "X86_V2", "X86_V3"),
    },
    "aarch64": {"NEON", "NEON_FP16", "NEON_VFPV4", "ASIMD"},
}
_BLAS_SWITCH, _NUMPY_SWITCH = "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES"


def processor() -> str:
    """The kind of processor: ``"x86_64"``, ``"aarch64"`` or what else the system calls it."""
    name = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)


def arithmetic() -> dict[str, Any]:
    """What decides rounding here: ``processor``, kernels of the ``blas``, features of ``numpy``.

    Features are those that NumPy chose beyond what it always uses. The same on all machines whose
    arithmetic is portable.
    """
    return {"processor": processor(), "blas": list(blas_cores()), "numpy": _chosen()}


def portable_environment() -> dict[str, str]:
    """Environment variables that make the arithmetic of a new process portable.

    Raises
    ------
    SpecError
        It cannot be portable here; the line says why.
    """
    kind = processor()
    if kind not in CORES:
        raise _impossible(f"the processor is a {kind}, and it is defined for {', '.join(CORES)}")
    if not blas_is_controlled() or not blas_cores():
        raise _impossible("NumPy computes with another BLAS than the OpenBLAS of its wheels")
    baseline = set(_numpy().__cpu_baseline__) - _ALLOWED[kind]
    if baseline:
        raise _impossible(f"NumPy was built to use {', '.join(sorted(baseline))} always")
    if kind == "x86_64" and not (_has("AVX2") and _has("FMA3")):
        raise _impossible("the processor lacks AVX2 or fused multiplication")
    if _uses_svml():
        raise _impossible("Numba computes with Intel's SVML (remove the package icc_rt)")
    return {_BLAS_SWITCH: CORES[kind], _NUMPY_SWITCH: " ".join(_unwanted(kind))}


def is_portable() -> bool:
    """Whether the arithmetic of this process is the portable one."""
    kind = processor()
    return (
        kind in CORES
        and blas_is_controlled()
        and set(blas_cores()) == {CORES[kind]}
        and not any(_has(name) for name in _unwanted(kind))
        and (kind != "x86_64" or (_has("AVX2") and _has("FMA3")))
        and not set(_numpy().__cpu_baseline__) - _ALLOWED[kind]
        and not _uses_svml()
    )


def require_portable() -> None:
    """Refuse a process whose arithmetic is not the portable one.

    Raises
    ------
    SpecError
        With the variables to set, or why none would help.
    """
    if is_portable():
        return
    wanted = portable_environment()
    if all(os.environ.get(name) == value for name, value in wanted.items()):
        raise _impossible(
            f"OpenBLAS uses its kernels {', '.join(blas_cores())} though {_BLAS_SWITCH} names "
            f"{wanted[_BLAS_SWITCH]}"
        )
    settings = " ".join(f"{name}={value!r}" for name, value in wanted.items())
    raise SpecError(
        "portable bytes need an environment that is there before Python starts; lrc compress "
        f"--portable sees to it, and a program of its own is to be run with {settings}"
    )


def _impossible(why: str) -> SpecError:
    return SpecError(f"portable bytes cannot be made here: {why}; leave --portable out")


def _numpy() -> Any:
    return importlib.import_module("numpy._core._multiarray_umath")


def _has(feature: str) -> bool:
    return bool(_numpy().__cpu_features__.get(feature, False))


def _chosen() -> list[str]:
    return sorted(name for name in _numpy().__cpu_dispatch__ if _has(name))


def _unwanted(kind: str) -> list[str]:
    """What NumPy could choose and the portable arithmetic does without, in NumPy's order."""
    return [name for name in _numpy().__cpu_dispatch__ if name not in _ALLOWED[kind]]


def _uses_svml() -> bool:
    from numba.core import config

    return bool(getattr(config, "USING_SVML", False))
