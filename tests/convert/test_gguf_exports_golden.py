"""GGUF files of every family hold what they held: tensors by their bytes, and fields."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from make_gguf_exports_golden import GOLDEN, WRITABLE, contents, exported

KNOWN = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}


@pytest.mark.parametrize("name", WRITABLE)
def test_a_file_holds_what_it_held(name: str, tmp_path: Path) -> None:
    assert contents(exported(name, tmp_path)) == KNOWN[name]


def test_no_family_is_gone() -> None:
    assert KNOWN.keys() == set(WRITABLE)
