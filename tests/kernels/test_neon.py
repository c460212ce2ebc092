"""What kernels become on 64-bit ARM, read as assembly; on such a machine `test_simd` runs them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cross_arm
import llvmlite.binding as llvm
import pytest

CROSS = Path(cross_arm.__file__)


def compiled(cpu: str, *kernels: str) -> dict[str, Counter[str]]:
    """Instructions of the kernels, and words of the path under ``"path"``."""
    llvm.initialize_all_targets()
    try:
        llvm.Target.from_triple(cross_arm.TRIPLE)
    except RuntimeError:
        pytest.skip("this llvmlite cannot compile for ARM")
    forcing = {"LRC_SIMD", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"}
    done = subprocess.run(
        [sys.executable, str(CROSS), cpu, *kernels],
        check=True,
        capture_output=True,
        text=True,
        env={k: v for k, v in os.environ.items() if k not in forcing},
    )
    path, *parts = re.split(r"^kernel ", done.stdout, flags=re.MULTILINE)
    found = {"path": Counter(path.split()[1:])}
    for part in parts:
        name, body = part.split("\n", 1)
        found[name] = Counter(re.findall(r"^\t([a-z]\w*)", body, flags=re.MULTILINE))
    return found


@pytest.mark.parametrize(
    ("cpu", "words"),
    [
        ("generic", ["generic"]),
        ("cortex-a72", ["generic"]),
        ("neoverse-n1", ["neon", "generic"]),
        ("apple-m2", ["neon", "generic", "usdot"]),
    ],
)
def test_the_path_is_taken_where_there_are_dot_products(cpu: str, words: list[str]) -> None:
    assert list(compiled(cpu)["path"]) == words


@pytest.mark.parametrize("cpu", ["cortex-a76", "apple-m1"])
def test_bytes_are_looked_up_and_multiplied_in_fours(cpu: str) -> None:
    found = compiled(cpu, "shuffle", "shuffle_levels", "prompt", "peak")
    # Of eight weights in two registers: a product each, and four lookups at 10 state bits.
    assert found["shuffle"]["sdot"] >= 16
    assert found["shuffle"]["tbl"] >= 64
    assert found["shuffle_levels"]["tbl"] >= 64
    # Of 16 rows: two planes of six tokens, and of the last two.
    assert found["prompt"]["sdot"] == 64
    # One product a register of those in the loop.
    assert found["peak"]["sdot"] == 32
    for instructions in found.values():
        # What bytes are multiplied with where there is nothing better.
        assert not {"smull", "smlal", "umull"} & set(instructions)


def test_bytes_of_different_signs_are_multiplied_where_that_is_an_instruction() -> None:
    found = compiled("apple-m2", "bytes")["bytes"]
    # Four rows of 64 bytes times two planes.
    assert found["usdot"] == 32
    assert not found["sdot"]
