"""Which vector instructions kernels are compiled for.

Four paths give the same integers and, since every float operation has a fixed order, the same
floats: ``"avx512vnni"``, ``"avxvnni"`` (AVX2 with the 256-bit ``vpdpbusd``), ``"avx2"`` and
``"generic"`` (plain vector IR, lowered by LLVM for whatever the machine has). The environment
variable ``LRC_SIMD`` forces one; kernels compiled under it are not cached.
"""

from __future__ import annotations

import os
from functools import cache

import numba

PATHS = ("avx512vnni", "avxvnni", "avx2", "generic")
_NEEDS = {
    "avx512vnni": ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni"),
    "avxvnni": ("avx2", "avxvnni"),
    "avx2": ("avx2",),
    "generic": (),
}
#: Environment variable that forces a path.
SWITCH = "LRC_SIMD"


@cache
def available_paths() -> tuple[str, ...]:
    """Paths that this machine can run, fastest first."""
    import llvmlite.binding

    have = llvmlite.binding.get_host_cpu_features()
    return tuple(p for p in PATHS if all(have.get(f, False) for f in _NEEDS[p]))


@cache
def path() -> str:
    """The path that kernels are compiled for.

    Where ``NUMBA_CPU_FEATURES`` (or a ``NUMBA_CPU_NAME`` of "generic") makes Numba compile for
    other features than this machine's, it is the generic path unless ``LRC_SIMD`` names one.

    Raises
    ------
    ValueError
        ``LRC_SIMD`` names a path that is unknown or that this machine cannot run.
    """
    asked = os.environ.get(SWITCH)
    if not asked:
        other = getattr(numba.config, "CPU_FEATURES", None)
        return available_paths()[0] if other is None else "generic"
    if asked not in available_paths():
        raise ValueError(
            f"{SWITCH}={asked} cannot run here; use one of {', '.join(available_paths())}"
        )
    return asked


@cache
def picks_bits() -> bool:
    """Whether the path has ``vpmultishiftqb``, which some of its processors lack."""
    import llvmlite.binding

    names = ("CPU_NAME", "CPU_FEATURES")
    native = all(getattr(numba.config, name, None) is None for name in names)
    has = llvmlite.binding.get_host_cpu_features().get("avx512vbmi", False)
    return path() == "avx512vnni" and native and bool(has)
