"""Kernels compiled for 64-bit ARM on any machine, to be read and not run.

As a program, ``cross_arm.py CPU KERNEL...`` prints the path that is chosen for a processor, by
LLVM's name of it, and the assembly of kernels. Numba is told that this machine is such a one.
"""

from __future__ import annotations

import importlib
import sys

import llvmlite.binding as llvm

TRIPLE = "aarch64-unknown-linux-gnu"
#: What LLVM lists of nearly every such processor: no dot products among it.
FEATURES = {"neon": True, "fp-armv8": True, "crc": True, "lse": True, "sve": False}
#: By name: module, function or what makes it and of what, and its arguments: integers, floats,
#: booleans.
KERNELS = {
    "shuffle": ("dot.dot_shuffle", ("_make", 2, 10, True), "iibiiiiifi"),
    "shuffle_levels": ("codes.shuffle", ("_make", 4, 12), "iibii"),
    "bytes": ("dot.dot_units", ("_make_four", 8, False), "iiiifiiiiiiii"),
    "prompt": ("dot.weight_panels", ("_multiply_rings",), "iiiiii"),
    "peak": ("dot.dot_peak", ("_dots",), "ii"),
}


def pretend(cpu: str) -> None:
    """Make Numba compile for an ARM processor in this process."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    features = llvm.FeatureMap(FEATURES)
    llvm.get_process_triple = lambda: TRIPLE
    llvm.get_host_cpu_name = lambda: cpu
    llvm.get_host_cpu_features = lambda: features


def assembly(name: str) -> str:
    """Assembly of one of `KERNELS`, compiled for the processor pretended."""
    from numba import types
    from numba.core.caching import NullCache

    from lrc_kernels._jit import njit

    module, (attribute, *numbers), letters = KERNELS[name]
    kinds = {"i": types.int64, "f": types.float32, "b": types.boolean}
    found = getattr(importlib.import_module(f"lrc_kernels.cpu.{module}"), attribute)
    if numbers:
        found = found(*numbers)
    kernel = njit()(found.py_func)  # Whatever it is, as a kernel that Python can call.
    kernel._cache = NullCache()  # What comes from a cache has no assembly.
    kernel.compile(tuple(kinds[letter] for letter in letters))
    return "\n".join(kernel.inspect_asm().values())


def main(cpu: str, *names: str) -> None:
    """Print the path for a processor, then assembly."""
    pretend(cpu)
    from lrc_kernels.simd import paths

    words = [*paths.available_paths(), *(["usdot"] if paths.mixes_signs() else [])]
    sys.stdout.write(f"path {' '.join(words)}\n")
    for name in names:
        sys.stdout.write(f"kernel {name}\n{assembly(name)}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
