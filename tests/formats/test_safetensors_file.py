"""Our reader and writer agree with the safetensors package and refuse every damaged file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lrc.errors import FormatError
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.formats.safetensors.writing import (
    TensorSpec,
    check_written,
    file_size,
    stream_safetensors,
    write_safetensors,
)

TYPES = [np.float64, np.float32, np.float16, np.int64, np.int32, np.int16, np.int8]
TYPES += [np.uint64, np.uint32, np.uint16, np.uint8, np.bool_]
ARRAYS = st.sampled_from(TYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0))
)
TENSORS = st.dictionaries(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1).filter(
        lambda name: name != "__metadata__"
    ),
    ARRAYS,
    max_size=5,
)
per_call_directory = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def write_raw(path: Path, header: Any, data: bytes, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + text + data)
    return path


def entry(begin: Any, end: Any, dtype: Any = "F32", shape: Any = None) -> dict[str, Any]:
    shape = [(end - begin) // 4] if shape is None else shape
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@per_call_directory
@given(tensors=TENSORS, metadata=st.dictionaries(st.text(max_size=5), st.text(max_size=5)))
def test_the_package_reads_what_we_write(
    tmp_path: Path, tensors: dict[str, Any], metadata: dict[str, str]
) -> None:
    path = tmp_path / "ours.safetensors"
    write_safetensors(path, tensors, metadata)
    theirs = safetensors.numpy.load_file(path)
    assert set(theirs) == set(tensors)
    for name, array in tensors.items():
        np.testing.assert_array_equal(theirs[name], array, strict=True)
    assert SafetensorsFile(path).metadata == metadata
    specs = {name: TensorSpec.of(array) for name, array in tensors.items()}
    assert path.stat().st_size == file_size(specs, metadata)


@per_call_directory
@given(tensors=TENSORS)
def test_we_read_what_the_package_writes(tmp_path: Path, tensors: dict[str, Any]) -> None:
    path = tmp_path / "theirs.safetensors"
    safetensors.numpy.save_file(tensors, path)
    file = SafetensorsFile(path)
    assert file.names == tuple(sorted(tensors))
    for name, array in tensors.items():
        np.testing.assert_array_equal(file.read(name), array, strict=True)
        assert file.info(name).shape == array.shape


def test_equal_tensors_in_any_order_give_equal_bytes(tmp_path: Path) -> None:
    tensors = {"b": np.arange(3, dtype=np.int8), "a": np.arange(4.0), "c": np.arange(5, dtype="i2")}
    write_safetensors(tmp_path / "1", tensors)
    write_safetensors(tmp_path / "2", dict(reversed(tensors.items())))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()


def test_written_tensors_are_aligned_views(tmp_path: Path) -> None:
    odd = {"a": np.ones(3, np.int8), "b": np.ones(5, np.float16), "c": np.ones(7, np.float32)}
    write_safetensors(tmp_path / "f", odd)
    file = SafetensorsFile(tmp_path / "f")
    assert all(file.read(name).flags.aligned for name in odd)
    view = file.float32("c")
    assert not view.flags.owndata
    assert not view.flags.writeable


@pytest.mark.parametrize("change", ["byte", "shape", "dtype", "name"])
def test_a_file_that_does_not_read_back_as_written_is_refused(tmp_path: Path, change: str) -> None:
    tensors = {"a": np.array([0.0, np.nan, 2.0]), "b": np.arange(6, dtype=np.uint8)}
    write_safetensors(tmp_path / "f", tensors)
    check_written(tmp_path / "f", tensors)
    other = {
        "byte": {"a": np.array([-0.0, np.nan, 2.0])},
        "shape": {"b": np.arange(6, dtype=np.uint8).reshape(2, 3)},
        "dtype": {"b": np.arange(6, dtype=np.int8)},
        "name": {"c": np.ones(1)},
    }[change]
    with pytest.raises(FormatError, match=r"does not read back|no tensor 'c'"):
        check_written(tmp_path / "f", tensors | other)


@pytest.mark.parametrize("length", [1, 2, 30, 63])
def test_data_starts_at_a_multiple_of_64(tmp_path: Path, length: int) -> None:
    write_safetensors(tmp_path / "f", {"x" * length: np.ones(3)})
    with (tmp_path / "f").open("rb") as stream:
        assert (8 + int.from_bytes(stream.read(8), "little")) % 64 == 0


def test_an_unaligned_tensor_is_copied(tmp_path: Path) -> None:
    header = {"a": entry(0, 1, "U8", [1]), "b": entry(1, 9)}
    values = np.array([1.5, -2.0], "<f4")
    path = write_raw(tmp_path / "f", header, b"\0" + values.tobytes())
    found = SafetensorsFile(path).float32("b")
    assert found.flags.aligned
    np.testing.assert_array_equal(found, values)


def test_every_bf16_pattern_widens_to_its_value(tmp_path: Path) -> None:
    patterns = np.arange(65536, dtype=np.uint16)
    path = tmp_path / "f"
    stream_safetensors(
        path, {"w": TensorSpec("BF16", (256, 256))}, [patterns.reshape(256, 256)], {}
    )
    wide = SafetensorsFile(path).float32("w").reshape(-1)
    sign = np.where(patterns >> 15, -1.0, 1.0)
    exponent, mantissa = (patterns >> 7 & 255).astype(int), (patterns & 127).astype(int)
    normal = np.ldexp(1 + mantissa / 128, exponent - 127)
    value = sign * np.where(exponent == 0, np.ldexp(mantissa / 128, -126), normal)
    finite = exponent < 255
    np.testing.assert_array_equal(wide[finite], value[finite].astype(np.float32))
    np.testing.assert_array_equal(np.isnan(wide), ~finite & (mantissa > 0))
    np.testing.assert_array_equal(np.isinf(wide), ~finite & (mantissa == 0))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_become_float32(tmp_path: Path, dtype: type) -> None:
    values = np.array([0.0, -0.1, 65504.0, 6e-8], dtype)
    write_safetensors(tmp_path / "f", {"w": values})
    found = SafetensorsFile(tmp_path / "f").float32("w")
    np.testing.assert_array_equal(found, values.astype(np.float32), strict=True)


def test_integers_are_no_weights(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "f", {"qweight": np.ones(3, np.int32)})
    with pytest.raises(FormatError, match=r"qweight.*I32.*expected F32"):
        SafetensorsFile(tmp_path / "f").float32("qweight")


def test_unknown_tensor_is_named(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "f", {"w": np.ones(3)})
    with pytest.raises(FormatError, match="no tensor 'v'"):
        SafetensorsFile(tmp_path / "f").read("v")


@pytest.mark.parametrize(
    "array", [np.ones(3, np.float64), np.ones(4, np.float32), np.ones((3, 1), np.float32)]
)
def test_writer_refuses_an_array_that_is_not_its_spec(tmp_path: Path, array: Any) -> None:
    with pytest.raises(TypeError, match="w: got"):
        stream_safetensors(tmp_path / "f", {"w": TensorSpec("F32", (3,))}, [array], {})


GOOD = {"a": entry(0, 8), "b": entry(8, 12)}


def test_the_file_that_the_damaged_ones_derive_from_is_good(tmp_path: Path) -> None:
    assert SafetensorsFile(write_raw(tmp_path / "f", GOOD, bytes(12))).names == ("a", "b")


@pytest.mark.parametrize(
    ("header", "size", "message"),
    [
        ({"a": entry(0, 8), "b": entry(4, 8)}, 8, "overlaps"),
        ({"a": entry(0, 8), "b": entry(0, 8)}, 8, "overlaps"),
        ({"a": entry(0, 8), "b": entry(12, 16)}, 16, "gap"),
        ({"a": entry(4, 8)}, 8, "gap"),
        (GOOD, 13, "1 bytes after its last tensor"),
        (GOOD, 11, "truncated"),
        ({}, 4, "4 bytes after"),
        ({"a": entry(-4, 4)}, 8, "begin <= end"),
        ({"a": entry(8, 4, shape=[1])}, 8, "begin <= end"),
        ({"a": entry(0, 8.0, shape=[2])}, 8, "begin <= end"),
        ({"a": entry(0, True, "U8", [1])}, 1, "begin <= end"),
        ({"a": {**entry(0, 8), "data_offsets": [0, 8, 8]}}, 8, "begin <= end"),
        ({"a": entry(0, 8, "F16", [2])}, 8, "spans 8 bytes but F16"),
        ({"a": entry(0, 2**63, shape=[2**61])}, 8, "memory can hold"),
        ({"a": entry(0, 8, shape=[2**62, 2**62])}, 8, "memory can hold"),
        ({"a": entry(0, 1, "F4", [1])}, 1, "spans 1 bytes"),
        ({"a": entry(0, 8, shape=[-1, -2])}, 8, "integers >= 0"),
        ({"a": entry(0, 8, shape="2")}, 8, "integers >= 0"),
        ({"a": entry(0, 8, "F31")}, 8, "unknown dtype 'F31'"),
        ({"a": entry(0, 8, ["F32"])}, 8, "unknown dtype"),
        ({"a": {"dtype": "F32", "shape": [2]}}, 8, "exactly the keys"),
        ({"a": {**entry(0, 8), "extra": 1}}, 8, "exactly the keys"),
        ({"a": 5}, 8, "exactly the keys"),
        ({"__metadata__": {"x": 1}}, 0, "strings to strings"),
        ({"__metadata__": []}, 0, "strings to strings"),
        ([], 0, "expected a JSON object"),
        (b'{"a": {}, "a": {}}', 0, "key 'a' twice"),
        (
            b'{"a":{"dtype":"F32","dtype":"F16","shape":[2],"data_offsets":[0,8]}}',
            8,
            "'dtype' twice",
        ),
        (b'{"a": ', 0, "not valid JSON"),
        (b'{"\xff": 1}', 0, "not valid JSON"),
        (b'{"a":' + b"[" * 100_000, 0, "not valid JSON"),
        (b'{"a":' + b"9" * 5000 + b"}", 0, "integer of 5000 digits"),
    ],
)
def test_damage_is_refused(tmp_path: Path, header: Any, size: int, message: str) -> None:
    with pytest.raises(FormatError, match=message) as caught:
        SafetensorsFile(write_raw(tmp_path / "f", header, bytes(size)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [2**64 - 1, 10**9, 200])
def test_header_longer_than_the_file_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(FormatError, match=f"header of {length} bytes"):
        SafetensorsFile(write_raw(tmp_path / "f", GOOD, bytes(12), length))


def test_huge_header_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "f"
    with path.open("wb") as stream:
        stream.write((200_000_000).to_bytes(8, "little"))
        stream.truncate(300_000_000)
    with pytest.raises(FormatError, match="at most"):
        SafetensorsFile(path)


@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"\0" * 8])
def test_files_without_a_header_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(FormatError):
        SafetensorsFile(tmp_path / "f")


def test_missing_file_and_directory_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(FormatError, match="cannot read"):
            SafetensorsFile(path)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = write_raw(tmp_path / "f", GOOD, bytes(12))
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(FormatError):
            SafetensorsFile(path)


@per_call_directory
@given(data=st.data())
def test_a_changed_byte_is_refused_or_leaves_a_readable_file(tmp_path: Path, data: Any) -> None:
    path = write_raw(tmp_path / "f", GOOD, bytes(12))
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        file = SafetensorsFile(path)
    except FormatError:
        return
    for name in file.names:
        assert file.read(name).shape == file.info(name).shape
