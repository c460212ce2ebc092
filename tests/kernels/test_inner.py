"""What compiled code alone calls is compiled as a part of its callers."""

from __future__ import annotations

import numpy as np
from numba.core.caching import NullCache

from lrc_kernels._jit import njit


@njit(inner=True)
def tripled(x):
    return 3 * x + 1


@njit()
def both(x):
    return tripled(x) + tripled(x + 1)


@njit()
def outermost(x):
    return both(x) - np.int64(1)


def has_machine_code(kernel):
    (made,) = kernel.overloads.values()
    return made.library.get_pointer_to_function(made.fndesc.llvm_func_name) != 0


def test_machine_code_is_made_of_what_is_called_from_python():
    for kernel in (outermost, both):
        kernel._cache = NullCache()  # What comes from a cache was made at another time.
    assert outermost(5) == 34
    assert has_machine_code(outermost)
    assert not has_machine_code(tripled)
    # What can be called from both is compiled for each.
    assert not both.overloads
    assert both(5) == 35
    assert has_machine_code(both)
