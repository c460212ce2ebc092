"""Importance matrices: both forms as llama.cpp has them, and nothing else."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest

from lrc.errors import FormatError
from lrc.formats.imatrix import Entry, imatrix_bytes, read_imatrix

GOLDEN = Path(__file__).parent.parent / "data" / "golden" / "gguf"
ENTRIES = {
    "blk.0.attn_q.weight": Entry(np.array([[8.0, 2.0, 0.5]], "f4"), np.array([4.0], "f4")),
    "blk.0.ffn_up_exps.weight": Entry(
        np.array([[6.0, 9.0], [1.0, 2.0]], "f4"), np.array([3.0, 0.0], "f4")
    ),
}
#: The sides of a tensor; of others NumPy makes no array, though it would have no bytes.
ONE_ROW, HUGE_AND_EMPTY = struct.pack("<QQ", 3, 1), struct.pack("<QQ", 1 << 62, 0)


def older(values=(3.0, 6.0), calls=3, name=b"blk.0.attn_q.weight", entries=1):
    head = struct.pack("<ii", entries, len(name)) + name
    return head + struct.pack(f"<ii{len(values)}f", calls, len(values), *values)


def test_the_golden_file_is_written_and_read():
    golden = (GOLDEN / "imatrix.gguf").read_bytes()
    assert imatrix_bytes(ENTRIES, "wiki.txt", 2, 512) == golden
    found = read_imatrix(GOLDEN / "imatrix.gguf")
    assert set(found) == set(ENTRIES)
    assert found["blk.0.attn_q.weight"].mean_squares().tolist() == [[2.0, 0.5, 0.125]]
    # An expert that saw no token has no means.
    assert found["blk.0.ffn_up_exps.weight"].mean_squares().tolist() == [[2.0, 3.0], [1.0, 2.0]]


def test_the_package_gguf_reads_what_is_written():
    reader = gguf.GGUFReader(GOLDEN / "imatrix.gguf")
    fields = {name: field.contents() for name, field in reader.fields.items()}
    assert fields["general.type"] == "imatrix"
    assert fields["imatrix.datasets"] == ["wiki.txt"]
    assert (fields["imatrix.chunk_count"], fields["imatrix.chunk_size"]) == (2, 512)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    assert tensors["blk.0.ffn_up_exps.weight.in_sum2"].shape.tolist() == [2, 2]
    assert tensors["blk.0.attn_q.weight.counts"].shape.tolist() == [1, 1]
    for name, entry in ENTRIES.items():
        assert np.array_equal(tensors[name + ".in_sum2"].data, entry.sums)
        assert np.array_equal(tensors[name + ".counts"].data[:, 0], entry.counts)


def test_what_the_package_gguf_writes_is_read(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "")
    writer.add_type("imatrix")
    writer.add_array("imatrix.datasets", ["a", "b"])
    writer.add_tensor("w.in_sum2", np.array([[1.0, 4.0]], "f4"))
    writer.add_tensor("w.counts", np.array([2.0], "f4"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert read_imatrix(tmp_path / "x.gguf")["w"].mean_squares().tolist() == [[0.5, 2.0]]


def test_the_older_form_is_read_with_and_without_what_may_follow(tmp_path):
    golden = (GOLDEN / "imatrix.dat").read_bytes()
    assert golden == older() + struct.pack("<ii", 7, 8) + b"wiki.txt"
    for content in (golden, older()):
        (tmp_path / "x.dat").write_bytes(content)
        (entry,) = read_imatrix(tmp_path / "x.dat").values()
        assert entry.mean_squares().tolist() == [[1.0, 2.0]]


@pytest.mark.parametrize("name", ["imatrix.gguf", "imatrix.dat"])
def test_no_part_of_a_file_is_taken_for_one(name, tmp_path):
    whole = (GOLDEN / name).read_bytes()
    end = len(older()) if name.endswith("dat") else len(whole) - 28  # padding of the last tensor
    for length in range(end):
        (tmp_path / "x").write_bytes(whole[:length])
        with pytest.raises(FormatError):
            read_imatrix(tmp_path / "x")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (older((float("nan"), 1.0)), "none"),
        (older((-1.0, 1.0)), "none"),
        (older(calls=-1), "calls"),
        (older(name=b"\xff\xfe"), "UTF-8"),
        (older(entries=2) + older()[4:], "twice"),
        (older(entries=0), "no entries"),
        (struct.pack("<ii", 1, 1 << 30), "a name of"),
        (imatrix_bytes({}, "", 0, 0), "no entries"),
        (imatrix_bytes(ENTRIES, "", 0, 0).replace(b"imatrix", b"adapter", 1), "adapter"),
        (imatrix_bytes(ENTRIES, "", 0, 0).replace(b".counts", b".couNts"), "no counts"),
        (imatrix_bytes(ENTRIES, "", 0, 0).replace(ONE_ROW, HUGE_AND_EMPTY, 1), "is empty"),
    ],
)
def test_what_is_none_is_refused(content, says, tmp_path):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(FormatError, match=says):
        read_imatrix(tmp_path / "x")
