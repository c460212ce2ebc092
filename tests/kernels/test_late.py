"""Kernels that compiled code calls by address: those asked for are compiled, and kept apart."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from numba.core import types

from lrc_kernels._jit import njit
from lrc_kernels._late import Late, late
from lrc_kernels.cpu.dot import product
from lrc_kernels.cpu.dot.dot_levels import level_rows
from lrc_kernels.simd.values import load_f32, store_f32

#: A kernel of two keys, called by address from one that knows neither.
KERNELS = """
import sys
import numpy as np
from numba.core import types
from lrc_kernels._jit import njit
from lrc_kernels._late import late
from lrc_kernels.simd.values import load_f32, store_f32

def make_helper(factor):
    @njit(inner=True)
    def helper(x, steps):
        total = np.float32(0)
        for i in range(steps):
            total += factor * load_f32(x + 4 * i)
        return total
    return helper

@late(types.intp, types.intp, types.intp)
def kernels(factor, more):
    helper = make_helper(factor)
    def run(x, steps, out):
        store_f32(out, helper(x, steps) + np.float32(more))
    return run

call = kernels.call

@njit()
def outer(address, x, steps, out):
    call(address, x, steps, out)

x, out = np.arange(5, dtype=np.float32), np.zeros(1, np.float32)
for key in sys.argv[1:]:
    numbers = [int(n) for n in key.split(",")]
    outer(kernels.address(*numbers), x.ctypes.data, 5, out.ctypes.data)
    hits = sum(kernels.kernel(*numbers).stats.cache_hits.values())
    print(key, out[0], hits)
"""


def run(folder: Path, *keys: str) -> dict[str, tuple[float, int]]:
    """Value of each kernel, and whether it came from the cache."""
    (folder / "late_kernels.py").write_text(KERNELS)
    done = subprocess.run(
        [sys.executable, folder / "late_kernels.py", *keys],
        env=os.environ | {"NUMBA_CACHE_DIR": str(folder / "cache")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = [line.split() for line in done.stdout.splitlines()]
    return {key: (float(value), int(hits)) for key, value, hits in rows}


def test_each_key_is_a_kernel_of_its_own_in_the_cache_too(tmp_path: Path) -> None:
    # Kernels that were first compiled as the only one of a process have names that could clash.
    assert run(tmp_path, "3,1") == {"3,1": (31.0, 0)}
    assert run(tmp_path, "5,2") == {"5,2": (52.0, 0)}
    both = run(tmp_path, "5,2", "3,1", "7,1")
    kept = 0 if os.environ.get("LRC_SIMD") else 1
    assert both == {"5,2": (52.0, kept), "3,1": (31.0, kept), "7,1": (71.0, 0)}


def test_nothing_is_compiled_before_it_is_asked_for() -> None:
    made = []

    @late(types.intp)
    def kernels(number: int) -> object:
        made.append(number)

        def store(out: int) -> None:
            store_f32(out, np.float32(number))

        return store

    assert isinstance(kernels, Late)
    assert not made
    call = kernels.call

    @njit()
    def outer(address: int, out: int) -> None:
        call(address, out)

    out = np.zeros(1, np.float32)
    for number in (4, 9, 4):
        outer(kernels.address(number), out.ctypes.data)
        assert out[0] == number
    assert made == [4, 9]


def test_arguments_keep_their_kinds() -> None:
    @late(types.int32, types.float32, types.intp, types.intp)
    def kernels() -> object:
        def scale(whole: int, factor: float, x: int, out: int) -> None:
            store_f32(out, np.float32(whole) * factor * load_f32(x))

        return scale

    call = kernels.call

    @njit()
    def outer(address: int, whole: int, factor: float, x: int, out: int) -> None:
        call(address, whole, factor, x, out)

    x, out = np.float32([0.25]), np.zeros(1, np.float32)
    outer(kernels.address(), -3, np.float32(0.5), x.ctypes.data, out.ctypes.data)
    assert out[0] == -0.375


def test_a_matrix_is_linked_with_the_kernel_of_its_codes_alone() -> None:
    mats = np.zeros((3, product.INTEGERS), np.int64)
    mats[0, [product.KIND, product.BITS]] = product.LEVELS, 6
    mats[1, product.KIND] = product.DENSE
    mats[2, [product.KIND, product.BITS, product.TABLE]] = product.LEVELS, 4, 1
    mats[2, [product.RANK, product.RIGHT_BITS, product.RIGHT_TABLE]] = 3, 2, 1
    linked = product.linked(mats)
    assert not mats[:, product.ENTRY].any()
    assert list(linked[:, product.ENTRY]) == [level_rows.address(6, 0), 0, level_rows.address(4, 1)]
    assert list(linked[:, product.RIGHT_ENTRY]) == [0, 0, level_rows.address(2, 1)]
    linked[:, [product.ENTRY, product.RIGHT_ENTRY]] = 0
    np.testing.assert_array_equal(linked, mats)
