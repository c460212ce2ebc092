"""A disk fails under a command: one clear line, and the next run gives the same bytes.

`faulty_commands.py` as a program fails every change of every command; here a few of each are.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_commands import Command, commands, faults, undisturbed
from faulty_disk import FAILURES
from memory_folder import memory_folder

pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc"),
    pytest.mark.skipif(
        not all(importlib.util.find_spec(name) for name in ("jinja2", "gguf")),
        reason="needs the extras report and gguf",
    ),
]
#: Changes that fail, of each command: the dear ones fewer.
FEW = {"compress": 3, "tune": 2, "eval-keep": 2}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with memory_folder() as made:
        yield made


@pytest.fixture(scope="module")
def known(folder: Path) -> dict[str, Command]:
    return commands(folder)


@pytest.mark.parametrize(
    "name",
    ["compress", "export-hf", "export-gguf", "import-gguf", "tune", "report", "publish",
     "eval-keep"],
)  # fmt: skip
def test_a_failing_disk_is_told_of_and_got_over(
    known: dict[str, Command], folder: Path, name: str
) -> None:
    expected, count = undisturbed(known[name], folder / name)
    assert count > 4
    kinds, wanted = list(FAILURES), FEW.get(name, 4)
    for number in range(wanted):
        at, kind = 1 + number * (count - 1) // max(wanted - 1, 1), kinds[number % 2]
        root = folder / f"{name}-{number}"
        assert list(faults(known[name], root, expected, kind, at)) == [], (kind, at)
