"""A GGUF model in parts is the model in one file; parts that are missing or wrong are named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_gguf

from lrc.convert.gguf import import_gguf
from lrc.errors import FormatError


def parts(folder: Path, split: int = 8, **changes: Any) -> list[Path]:
    """The model of `tiny_gguf`, 20 tensors, in parts."""
    folder.mkdir(exist_ok=True)
    tiny_gguf.write(folder / "m.gguf", split=split, **changes)
    return sorted(folder.glob("m-*.gguf"))


@pytest.mark.parametrize("given", [0, 1, 2])
def test_any_part_gives_the_whole_model(tmp_path: Path, given: int) -> None:
    found = parts(tmp_path / "parts")
    assert [path.name for path in found] == [f"m-0000{i}-of-00003.gguf" for i in (1, 2, 3)]
    split = import_gguf(found[given], tmp_path / "split")
    whole = import_gguf(tiny_gguf.write(tmp_path / "m.gguf"), tmp_path / "whole")
    names = sorted(path.name for path in whole.iterdir())
    assert sorted(path.name for path in split.iterdir()) == names
    for name in names:
        assert (split / name).read_bytes() == (whole / name).read_bytes(), name


def refusal(path: Path, out: Path) -> str:
    with pytest.raises(FormatError) as caught:
        import_gguf(path, out)
    assert "\n" not in str(caught.value)
    assert not out.exists()
    return str(caught.value)


@pytest.mark.parametrize("missing", [0, 2])
def test_a_missing_part_is_named(tmp_path: Path, missing: int) -> None:
    found = parts(tmp_path)
    found[missing].unlink()
    message = refusal(found[1], tmp_path / "out")
    assert "part 2 of 3" in message
    assert message.endswith(f"no {found[missing].name}; fetch every part")


def test_a_renamed_part_says_what_it_was_called(tmp_path: Path) -> None:
    renamed = parts(tmp_path)[1].rename(tmp_path / "half.gguf")
    assert "expected the name NAME-00002-of-00003.gguf" in refusal(renamed, tmp_path / "out")


def test_a_part_in_the_place_of_another_is_refused(tmp_path: Path) -> None:
    found = parts(tmp_path)
    shutil.copyfile(found[1], found[2])
    assert "blk.0" in refusal(found[0], tmp_path / "out")


def test_a_part_of_another_splitting_is_refused(tmp_path: Path) -> None:
    found, other = parts(tmp_path / "a"), parts(tmp_path / "b", split=11)
    shutil.copyfile(other[1], found[1])
    found[2].write_bytes(tiny_gguf.write(tmp_path / "x.gguf", {}).read_bytes())
    message = refusal(found[0], tmp_path / "out")
    assert f"{found[1]} has split.no 1 and split.count 2; expected 1 and 3" in message


def test_lost_tensors_are_counted(tmp_path: Path) -> None:
    found = parts(tmp_path / "a")
    lost = tiny_gguf.tensors()
    lost.pop("blk.1.ffn_norm.weight")
    short = parts(tmp_path / "b", weights=lost)
    assert len(short) == 3
    shutil.copyfile(short[2], found[2])
    assert "announces 20 tensors and its 3 parts have 19" in refusal(found[0], tmp_path / "out")


def test_pointers_of_git_lfs_are_recognised(tmp_path: Path) -> None:
    found = parts(tmp_path)
    found[2].write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    for given in (found[0], found[2]):
        assert f"{found[2]} is a git-lfs pointer" in refusal(given, tmp_path / "out")
