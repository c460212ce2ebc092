"""A token touches the pages of its own experts: `bench/moe_decoding.py`, as small as it goes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="counts pages in /proc/self/pagemap")
def test_a_token_touches_two_experts_of_eight(
    script: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    bench = script("moe_decoding")
    model = bench.write(tmp_path / "model", bench.config(scale=8, blocks=1))
    record = bench.measure(model, tokens=4, threads=1)
    assert record["share_routed"] == 0.25
    # Neighbours of up to 64 KiB come with a page, at both ends of matrices of 229 KiB.
    assert 0.25 <= record["share"] <= record["most"] < 0.5
