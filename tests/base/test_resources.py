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
