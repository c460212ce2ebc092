"""Headers of GGUF files that lead beyond the file are refused before anything is made of them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import tiny_gguf

from lrc.convert.gguf.header import check_header
from lrc.errors import FormatError


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tiny_gguf.write(tmp_path_factory.mktemp("gguf") / "x.gguf")
    check_header(path)
    return path.read_bytes()


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        check_header(path)
    return str(caught.value)


def test_a_header_that_is_cut_anywhere_is_refused(whole: bytes, tmp_path: Path) -> None:
    end = whole.rindex(b"output_norm.weight") - 30
    for size in [*range(1, 200), *range(200, end, 97)]:
        said = refused(tmp_path / "x", whole[:size])
        assert "is not a readable GGUF file" in said


@pytest.mark.parametrize("count", [2**31, 2**62, 2**64 - 1])
def test_absurd_counts_are_refused(whole: bytes, tmp_path: Path, count: int) -> None:
    number = struct.pack("<Q", count)
    array = struct.pack("<IIQ", 9, 4, count)
    assert "beyond its end" in refused(tmp_path / "x", whole[:8] + number + whole[16:])
    assert "is not a readable" in refused(tmp_path / "x", whole[:16] + number + whole[24:])
    key = struct.pack("<Q", 1) + b"a"
    one = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + key
    assert "beyond its end" in refused(tmp_path / "x", one + array)
    assert "beyond its end" in refused(tmp_path / "x", one + struct.pack("<IQ", 8, count))


def test_arrays_in_arrays_have_an_end(tmp_path: Path) -> None:
    one = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"a" + b"\x09\0\0\0"
    nested = struct.pack("<IQ", 9, 1) * 50 + struct.pack("<IQ", 4, 0)
    assert "unknown type 9" in refused(tmp_path / "x", one + nested)
    two = struct.pack("<IQ", 9, 1) + struct.pack("<IQI", 4, 1, 7)
    (tmp_path / "y").write_bytes(one + two)
    check_header(tmp_path / "y")


def test_the_other_order_of_bytes_is_read(tmp_path: Path) -> None:
    content = b"GGUF" + struct.pack(">IQQ", 3, 1, 1) + struct.pack(">Q", 1) + b"a"
    content += struct.pack(">II", 4, 7) + struct.pack(">Q", 1) + b"t"
    content += struct.pack(">IQQIQ", 2, 3, 4, 0, 0)
    (tmp_path / "x").write_bytes(content)
    check_header(tmp_path / "x")
    assert "beyond its end" in refused(tmp_path / "x", content[:-1])


def test_empty_files_and_other_ones_are_refused(tmp_path: Path) -> None:
    assert "does not begin as one" in refused(tmp_path / "x", b"")
    assert "does not begin as one" in refused(tmp_path / "x", b"PK\3\4" * 9)
