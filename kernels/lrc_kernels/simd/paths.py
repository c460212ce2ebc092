"""Which vector instructions kernels are compiled for.

Five paths give the same integers and, since every float operation has a fixed order, the same
floats: ``"avx512vnni"``, ``"avxvnni"`` (AVX2 with the 256-bit ``vpdpbusd``), ``"avx2"``,
``"neon"`` (64-bit ARM with the dot product of bytes, ``sdot``) and ``"generic"`` (plain vector IR,
lowered by LLVM for whatever the machine has). The environment variable ``LRC_SIMD`` forces one;
kernels compiled under it are not cached.
"""

from __future__ import annotations

import os
from functools import cache

import numba

PATHS = ("avx512vnni", "avxvnni", "avx2", "neon", "generic")
_NEEDS = {
    "avx512vnni": ("avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512vnni"),
    "avxvnni": ("avx2", "avxvnni"),
    "avx2": ("avx2",),
    "neon": ("dotprod",),
    "generic": (),
}
#: Environment variable that forces a path.
SWITCH = "LRC_SIMD"
#: A sum of products of bytes, for which LLVM takes a dot product where the processor has one.
_PRODUCTS = """
declare i32 @llvm.vector.reduce.add.v16i32(<16 x i32>)
define i32 @f(<16 x i8> %a, <16 x i8> %b) {{
  %x = {extend} <16 x i8> %a to <16 x i32>
  %y = sext <16 x i8> %b to <16 x i32>
  %p = mul <16 x i32> %x, %y
  %s = call i32 @llvm.vector.reduce.add.v16i32(<16 x i32> %p)
  ret i32 %s
}}
"""


def _is_arm() -> bool:
    import llvmlite.binding

    return bool(llvmlite.binding.get_process_triple().startswith(("aarch64", "arm64")))


def _arm_compiles_to(instruction: str, extend: str) -> bool:
    """Whether LLVM uses an instruction for the processor that Numba compiles for.

    LLVM lists few of what an ARM processor has, and what a name implies is not among them.
    """
    import llvmlite.binding as llvm
    from numba.core.codegen import get_host_cpu_features, initialize_llvm

    initialize_llvm()  # type: ignore[no-untyped-call]
    name, features = (getattr(numba.config, f"CPU_{what}", None) for what in ("NAME", "FEATURES"))
    if features is None:
        features = get_host_cpu_features()  # type: ignore[no-untyped-call]
    target = llvm.Target.from_triple(llvm.get_process_triple())
    machine = target.create_target_machine(cpu=name or llvm.get_host_cpu_name(), features=features)
    module = llvm.parse_assembly(_PRODUCTS.format(extend=extend))
    return instruction in machine.emit_assembly(module)


@cache
def _features() -> dict[str, bool]:
    """What this machine has, by LLVM's names."""
    import llvmlite.binding

    try:
        found = dict(llvmlite.binding.get_host_cpu_features())
    except RuntimeError:  # LLVM cannot tell on some systems
        found = {}
    if _is_arm():
        found["dotprod"] = _arm_compiles_to("sdot", "sext")
        found["i8mm"] = _arm_compiles_to("usdot", "zext")
    return found


@cache
def available_paths() -> tuple[str, ...]:
    """Paths that this machine can run, fastest first."""
    have = _features()
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
    names = ("CPU_NAME", "CPU_FEATURES")
    native = all(getattr(numba.config, name, None) is None for name in names)
    return path() == "avx512vnni" and native and bool(_features().get("avx512vbmi", False))


@cache
def mixes_signs() -> bool:
    """Whether the path has ``usdot``, unsigned times signed bytes, which older processors lack."""
    return path() == "neon" and bool(_features().get("i8mm", False))
