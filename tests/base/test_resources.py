"""Peak memory belongs to this program, not to the one that started it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from lrc.base.resources import peak_rss_bytes

SCRIPT = "from lrc.base.resources import peak_rss_bytes; print(peak_rss_bytes())"


@pytest.mark.skipif(sys.platform != "linux", reason="the inherited peak is a Linux matter")
def test_a_child_does_not_report_its_parents_peak():
    ballast = bytearray(400 * 2**20)
    ballast[:: 2**12] = b"\1" * len(ballast[:: 2**12])
    own = peak_rss_bytes()
    child = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, check=True)
    assert own > 400 * 2**20
    assert int(child.stdout) < 200 * 2**20
    del ballast


HOLES = """
import numpy as np
from lrc.formats.pages import release_pages

def resident():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS")) // 1024

del [np.ones(6 << 20, np.float32)][:]  # 24 MiB freed: arrays of that size lie in the heap now
large, small = [], []
for _ in range(20):
    large.append(np.ones(4 << 20, np.float32))
    small.append(np.ones(3000, np.float32))
before = resident()
del large
release_pages([])  # as between blocks
print(before - resident())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="of glibc")
def test_holes_of_the_heap_are_given_back():
    child = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, check=True)
    assert int(child.stdout) > 300
