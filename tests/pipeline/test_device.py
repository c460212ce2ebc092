"""``--device cuda`` through a whole compression, with NumPy in CuPy's place."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from numpy_as_cupy import fake_cupy, stand_in

from lrc.linalg import cuda
from lrc_kernels.gpu import device

Lrc = Callable[..., Any]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Names of what was asked of the device."""
    stand_in(monkeypatch, fake_cupy())
    asked: set[str] = set()

    def noted(name: str) -> Callable[..., Any]:
        own = getattr(cuda, name)

        def work(*given: Any) -> Any:
            asked.add(name)
            return own(*given)

        return work

    for name in ("moments", "cholesky", "proxy_loss", "times_metric"):
        monkeypatch.setattr(cuda, name, noted(name))
    yield asked
    device.cupy.cache_clear()


def test_a_compression_asks_the_device_and_says_so(
    lrc: Lrc, model: Path, tmp_path: Path, calls: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrc.pipeline.plan.SOLVED", 64)  # which no code of the device fits
    out = tmp_path / "out"
    fast = ("--nsamples", "6", "--seqlen", "64", "--rank", "4", "--iterations", "1", "--quiet")
    report = lrc("compress", model, "-o", out, *fast, "--device", "cuda", "--json").check().json
    assert calls == {"moments", "cholesky", "proxy_loss", "times_metric"}
    assert report["spec"]["decompose"]["device"] == "cuda"
    (warning,) = (said for said in report["warnings"] if "device" in said)
    assert warning.startswith("device cuda (NumPy): sums are rounded in another order")
    notes = [of["notes"] for of in report["matrices"].values() if of["role"] == "matrix"]
    assert all(any("codes found on the CPU" in note for note in of) for of in notes)
    stored = json.loads((out / "lrc.json").read_text())
    assert warning in stored["warnings"]
