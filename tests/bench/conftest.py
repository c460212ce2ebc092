"""The scripts of ``bench/`` as modules, without pinning this process's threads."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"

Script = Callable[[str], ModuleType]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    """Import a script; the harness, which must come before NumPy, is left out."""
    harness = ModuleType("harness")
    harness.environment = lambda: {"case": "environment"}  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "harness", harness)
    before = set(sys.modules)
    sys.path.append(str(BENCH))
    yield importlib.import_module
    sys.path.remove(str(BENCH))
    for name in set(sys.modules) - before:
        if (
            getattr(sys.modules[name], "__file__", None)
            and Path(str(sys.modules[name].__file__)).parent == BENCH
        ):
            del sys.modules[name]
