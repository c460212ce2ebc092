"""Profiles, the kernel cache and the float error state; helpers are modules of their own."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from kernel_cache import kept_cache

from lrc_kernels.stamp import source_stamp

ROOT = Path(__file__).resolve().parent.parent

# Scripts that make golden files, some with packages that tests do without.
collect_ignore_glob = ["make_*.py"]

settings.register_profile("dev", max_examples=50, deadline=None, print_blob=True)
settings.register_profile(
    "ci", max_examples=60, deadline=None, print_blob=True, derandomize=True, database=None
)
settings.register_profile("nightly", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

# Sessions, and processes that tests start, share one cache until a source of the kernels changes.
if "NUMBA_CACHE_DIR" not in os.environ:
    os.environ["NUMBA_CACHE_DIR"] = str(kept_cache(Path(tempfile.gettempdir()), source_stamp()))
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT), str(ROOT / "kernels"), *filter(None, [os.environ.get("PYTHONPATH")])]
)


@pytest.fixture(autouse=True)
def _float_errors() -> Iterator[None]:
    """Overflow, division by zero and invalid operations are errors unless code says otherwise."""
    with np.errstate(divide="raise", over="raise", invalid="raise"):
        before = np.geterr()
        yield
        assert np.geterr() == before, "the code under test changed NumPy's error state"
