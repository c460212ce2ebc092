"""Compiled kernels are kept on disk until any source changes, and go without where they must."""

from __future__ import annotations

import importlib
import os
import pkgutil
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from kernel_cache import DAYS, kept_cache
from numba.core import caching
from numba.core.dispatcher import Dispatcher

import lrc_kernels
from lrc_kernels import _jit
from lrc_kernels.stamp import source_stamp

KERNEL = """
from lrc_kernels._jit import is_cached, njit
from lrc_kernels.cpu.helper import helper

@njit()
def kernel(x):
    return helper(x)

print(is_cached(kernel), kernel(1), sum(kernel.stats.cache_hits.values()))
"""
HELPER = """
from lrc_kernels._jit import njit

@njit(inline=True)
def helper(x):
    return x + {}
"""


def cached_kernels():
    for module in pkgutil.walk_packages(lrc_kernels.__path__, "lrc_kernels."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Dispatcher) and isinstance(value._cache, _jit._Cache):
                yield value


def test_no_kernel_is_told_apart_by_what_differs_between_processes():
    """Numba's key includes what a function closes over, and a compiled helper has no fixed one."""
    kernels = list(cached_kernels())
    assert len(kernels) > 20
    assert [k for k in kernels if k.py_func.__closure__ is not None] == []
    assert {k._cache._cache_file._source_stamp for k in kernels} == {source_stamp()}


def test_an_edit_of_a_helper_in_another_file_is_noticed(tmp_path):
    package = tmp_path / "lrc_kernels"
    shutil.copytree(Path(lrc_kernels.__file__).parent, package)
    (package / "cpu" / "kernel.py").write_text(KERNEL)
    environment = {k: v for k, v in os.environ.items() if k != "LRC_SIMD"} | {
        "PYTHONPATH": str(tmp_path),
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
    }

    def run(step):
        (package / "cpu" / "helper.py").write_text(HELPER.format(step))
        command = [sys.executable, "-c", "import lrc_kernels.cpu.kernel"]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout.split()

    assert run(1) == ["False", "2", "0"]
    assert run(1) == ["True", "2", "1"]
    assert run(2) == ["False", "3", "0"]
    assert run(2) == ["True", "3", "1"]


@pytest.fixture
def fresh_warnings():
    _jit._warn_unkept.cache_clear()
    yield
    _jit._warn_unkept.cache_clear()


def refuse(*_, **__):
    raise PermissionError(13, "Permission denied")


@pytest.mark.usefixtures("fresh_warnings")
@pytest.mark.parametrize("forced", ["ensure_cache_path", "_open_for_write"])
def test_where_nothing_can_be_written_kernels_work_and_it_is_said_once(monkeypatch, forced):
    """Neither a directory at the start, nor later on a file."""
    monkeypatch.delenv("LRC_SIMD", raising=False)
    owner = caching._CacheLocator if "ensure" in forced else caching.IndexDataCacheFile
    monkeypatch.setattr(owner, forced, refuse)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        kernels = [_jit.njit()(lambda x, y=y: x + y) for y in range(2)]
        assert [kernel(1) for kernel in kernels] == [1, 2]
        assert not any(map(_jit.is_cached, kernels))
    assert [w.category for w in told] == [RuntimeWarning]
    assert "NUMBA_CACHE_DIR" in str(told[0].message)


def test_sessions_of_the_same_sources_share_a_directory_and_old_ones_go(tmp_path):
    first, other = kept_cache(tmp_path, "a"), kept_cache(tmp_path, "b")
    assert kept_cache(tmp_path, "a") == first != other
    assert first.stat().st_mode & 0o777 == 0o700
    long_ago = time.time() - (DAYS + 1) * 86400
    os.utime(first, (long_ago, long_ago))
    assert kept_cache(tmp_path, "b") == other
    assert not first.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
def test_a_directory_that_others_may_write_is_not_used(tmp_path):
    kept_cache(tmp_path, "a").chmod(0o777)
    assert kept_cache(tmp_path, "a").name != "lrc-numba-a"


def test_processes_that_keep_two_forms_at_a_time_keep_both_apart(tmp_path):
    """Neither knows of what the other keeps; one of them may be compiled again, none mistaken."""
    files = [_jit._Files(str(tmp_path), "kernel", "stamp") for _ in range(2)]
    seen = files[0]._load_index()
    files[1].save(("form", 2), "second")
    files[0]._load_index = lambda: seen
    files[0].save(("form", 1), "first")
    again = _jit._Files(str(tmp_path), "kernel", "stamp")
    assert again.load(("form", 1)) == "first"
    assert again.load(("form", 2)) in ("second", None)
    again.save(("form", 2), "second")
    assert [again.load(("form", form)) for form in (1, 2)] == ["first", "second"]
