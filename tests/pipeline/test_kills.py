"""60 kills and power cuts at random moments: every resumed run ends as one that nothing disturbed.

`bench/kills.py` makes as many as it is told, of tuning, too.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import dying
import pytest
import simulated_disk
from kills import Job, chain, changes, contents, jobs
from memory_folder import memory_folder

from lrc.base.atomic import atomic_write_bytes

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork") or not Path("/proc/self/fd").exists(), reason="needs fork and /proc"
)


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Job]:
    return jobs(tmp_path_factory.mktemp("jobs"))


@pytest.fixture
def folder() -> Iterator[Path]:
    with memory_folder() as made:
        yield made


@pytest.mark.parametrize(("name", "chains", "each"), [("compress", 14, 3), ("export", 18, 1)])
def test_killed_at_random_moments_a_job_goes_on_to_the_same_bytes(
    known: dict[str, Job], folder: Path, name: str, chains: int, each: int
) -> None:
    job = known[name]
    began = time.perf_counter()
    expected = job.undisturbed(folder / "whole")
    seconds = time.perf_counter() - began
    steps = changes(job, folder / "counted")
    died = 0
    for case in range(chains):
        rng = random.Random(f"{name}:{case}")
        ways = tuple(rng.choice(("kill", "power cut")) for _ in range(each))
        if case % 4 == 3:
            ways = ("kill -9", *ways[1:])
        found, codes = chain(job, folder / str(case), ways, steps, seconds, rng)
        assert found == expected, (case, ways, codes)
        died += sum(code == dying.KILLED for code in codes)
    assert died > chains * each // 3  # later runs of a chain have less to do, and may end


def test_a_power_cut_takes_what_was_not_synced(folder: Path) -> None:
    root = folder / "root"
    root.mkdir()
    (root / "old").write_bytes(b"old")

    def work() -> None:
        (root / "loose").write_bytes(b"never synced")
        atomic_write_bytes(root / "safe", b"synced")
        os.mkdir(root / "last")

    seen = set()
    for seed in range(8):
        for path in root.iterdir():
            if path.name != "old":
                path.rmdir() if path.is_dir() else path.unlink()
        step = 1
        while simulated_disk.cut_at(step, work, root, seed) == dying.KILLED:
            found = contents(root)
            assert found["old"] == b"old"
            assert found.get("safe", b"synced") == b"synced"
            seen.add(found.get("loose"))
            step += 1
            for path in root.iterdir():
                if path.name != "old":
                    path.rmdir() if path.is_dir() else path.unlink()
    assert {None, b"never synced", bytes(12)} <= seen
    assert len(seen) > 3
