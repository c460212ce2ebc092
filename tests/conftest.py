"""Profiles, a fresh kernel cache and the float error state; helpers are modules of their own."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# Scripts that make golden files, some with packages that tests do without.
collect_ignore_glob = ["make_*.py"]

settings.register_profile("dev", max_examples=50, deadline=None, print_blob=True)
settings.register_profile(
    "ci", max_examples=200, deadline=None, print_blob=True, derandomize=True, database=None
)
settings.register_profile("nightly", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

# A cached kernel does not notice an edit of a helper in another file, so each session compiles
# afresh; processes that tests start share this session's cache and find the same sources.
_own_cache = "NUMBA_CACHE_DIR" not in os.environ
if _own_cache:
    os.environ["NUMBA_CACHE_DIR"] = tempfile.mkdtemp(prefix="lrc-numba-")
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT), str(ROOT / "kernels"), *filter(None, [os.environ.get("PYTHONPATH")])]
)


def pytest_unconfigure() -> None:
    if _own_cache:
        shutil.rmtree(os.environ["NUMBA_CACHE_DIR"], ignore_errors=True)


@pytest.fixture(autouse=True)
def _float_errors() -> Iterator[None]:
    """Overflow, division by zero and invalid operations are errors unless code says otherwise."""
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        before = np.geterr()
        yield
        assert np.geterr() == before, "the code under test changed NumPy's error state"
