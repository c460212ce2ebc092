"""A kernel from the cache runs what it was linked with, whatever else this process compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

#: Two kernels with helpers of one name and one signature, too large to be inlined.
KERNELS = """
import sys
import numpy as np
from lrc_kernels._jit import njit

def make(factor):
    @njit(inner=True)
    def helper(x, steps):
        total = x
        for i in range(steps):
            STEPS
        return total
    return helper

three, five = make(3), make(5)

@njit()
def first(x, steps):
    return three(x, steps) + three(x + 1, steps) - three(x, steps + 1) * three(x - 1, steps)

@njit()
def second(x, steps):
    return five(x, steps) + five(x + 1, steps) - five(x, steps + 1) * five(x - 1, steps)

for name in sys.argv[1:]:
    kernel = {"first": first, "second": second}[name]
    print(name, kernel(np.int64(9), np.int64(11)), sum(kernel.stats.cache_hits.values()))
"""


def run(folder: Path, *kernels: str) -> dict[str, tuple[int, int]]:
    """Value of each kernel, and whether it came from the cache."""
    steps = "\n            ".join(
        f"if total > {k}: total = (total * factor + {k}) % {1000003 + k}" for k in range(60)
    )
    (folder / "kernels_of_two.py").write_text(KERNELS.replace("STEPS", steps))
    done = subprocess.run(
        [sys.executable, folder / "kernels_of_two.py", *kernels],
        env=os.environ | {"NUMBA_CACHE_DIR": str(folder / "cache")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = [line.split() for line in done.stdout.splitlines()]
    return {name: (int(value), int(hits)) for name, value, hits in rows}


def test_helpers_of_the_same_name_do_not_stand_in_for_each_other(tmp_path: Path) -> None:
    apart = tmp_path / "apart"
    apart.mkdir()
    expected = run(apart, "first")["first"], run(apart, "second")["second"]
    together = tmp_path / "together"
    together.mkdir()
    assert run(together, "first")["first"] == expected[0]
    found = run(together, "second", "first")
    assert found["first"] == (expected[0][0], 1)
    assert found["second"] == expected[1]
