"""What tells one job's code from another's."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lrc.base.fingerprint import code_digest


def test_any_source_file_and_library_version_changes_the_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both packages are looked at, in every folder; nothing else is."""

    def digest() -> str:
        code_digest.cache_clear()
        return code_digest()

    before = digest()
    assert digest() == before
    for package in ("lrc", "lrc_kernels"):
        (tmp_path / package / "sub").mkdir(parents=True)
        (tmp_path / package / "sub" / "a.py").write_text("1")
    find = importlib.util.find_spec

    def found(name: str) -> Any:
        if name in ("lrc", "lrc_kernels"):
            return SimpleNamespace(submodule_search_locations=[str(tmp_path / name)])
        return find(name)

    monkeypatch.setattr(importlib.util, "find_spec", found)
    digests = [before, digest()]
    (tmp_path / "lrc" / "notes.txt").write_text("1")
    assert digest() == digests[-1]
    for package in ("lrc", "lrc_kernels"):
        (tmp_path / package / "sub" / "a.py").write_text("2")
        digests.append(digest())
    (tmp_path / "lrc" / "sub" / "a.py").rename(tmp_path / "lrc" / "a.py")
    digests.append(digest())
    monkeypatch.setattr("numpy.__version__", "0")
    digests.append(digest())
    assert len(set(digests)) == len(digests)
    monkeypatch.undo()
    assert digest() == before
