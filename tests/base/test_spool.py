"""Arrays in files: the same values, memory that is given back, nothing that is left behind."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from lrc.base.spool import MemoryUse, Spool, memory_use, using_memory


def resident() -> int:
    """Bytes of mapped files that are in memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    shared = [line for line in lines if line.startswith(("RssFile", "RssShmem"))]
    return sum(int(line.split()[1]) * 1024 for line in shared)


def test_values_stay_what_they_are_whatever_is_given_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    values = np.random.default_rng(1).standard_normal((3, 5, 7)).astype(np.float32)
    made = spool.copy(values[:, ::2])
    spool.rest([made, values])
    np.testing.assert_array_equal(made, values[:, ::2])
    made += 1
    spool.rest([made.reshape(-1)])
    np.testing.assert_array_equal(made, values[:, ::2] + 1)
    assert spool.written == made.nbytes
    assert spool.copy(np.zeros((0, 4), np.int64)).dtype == np.int64


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
def test_memory_is_given_back(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    made = spool.copy(np.ones(8 << 20, np.float32))
    before = resident()
    spool.rest([made])
    assert before - resident() > 30 << 20
    assert made[12345] == 1


def test_files_have_no_name_and_go_with_their_arrays(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    made = spool.copy(np.ones(10))
    assert list(tmp_path.iterdir()) == []
    assert len(spool._maps) == 1
    del made
    gc.collect()
    assert len(spool._maps) == 0


def test_a_disk_without_room_is_an_error(tmp_path: Path) -> None:
    huge = np.broadcast_to(np.float32(0), (1 << 46,))
    with pytest.raises(OSError):
        Spool(tmp_path).copy(huge)


def test_a_use_of_memory_ends_with_its_block(tmp_path: Path) -> None:
    use = MemoryUse(Spool(tmp_path), side_by_side=False)
    with using_memory(use):
        assert memory_use() is use
    assert memory_use() == MemoryUse()
