"""Importance matrices of llama.cpp: what the inputs of each matrix come to, squared and summed.

Two forms are read. A GGUF file has, for a tensor NAME, the sums of squares ``NAME.in_sum2`` of k
rows of n inputs (k experts, or 1) and the tokens ``NAME.counts`` that were summed over, both
float32. The older form is little-endian: the number of entries, and for each the length of its
name, the name, the number of calls, the number of values and the values, which are means times that
number; what may follow says how many chunks of text were read, and which.

Sources: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md for GGUF; README and loader of
llama.cpp's tool imatrix for what is in it.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lrc.errors import FormatError

SUMS, COUNTS = ".in_sum2", ".counts"
#: Keys of a GGUF file that is an importance matrix.
TYPE, DATASETS, CHUNKS, CHUNK_SIZE = (
    "general.type", "imatrix.datasets", "imatrix.chunk_count", "imatrix.chunk_size",
)  # fmt: skip
_MAGIC, _FLOAT32, _ALIGNMENT = b"GGUF", 0, 32
#: Bytes of a value by its type; strings and arrays say how long they are.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_UINT32, _STRING, _ARRAY = 4, 8, 9
#: Longest name of a tensor in the older form, and most of a text's name.
_LONGEST = 4096


@dataclass(frozen=True)
class Entry:
    """Sums of squares (k, n) float32 of the inputs of a matrix, over ``counts`` (k,) tokens."""

    sums: NDArray[np.float32]
    counts: NDArray[np.float32]

    def mean_squares(self) -> NDArray[np.float64]:
        """E[z^2] of each input, (k, n); zeros where no token was seen."""
        counts = self.counts.astype(np.float64)[:, None]
        return self.sums.astype(np.float64) / np.where(counts > 0, counts, 1)


def read_imatrix(path: Path) -> dict[str, Entry]:
    """The entries of an importance matrix by GGUF name of the tensor.

    Raises
    ------
    FormatError
        It is neither form, ends too early, or has sums that are none of squares.
    """
    try:
        with path.open("rb") as stream:
            if not stream.read(1):
                raise FormatError(f"{path} is empty; give an importance matrix of llama.cpp")
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                whole = memoryview(data)
                try:
                    found = _read_gguf if whole[:4] == _MAGIC else _read_older
                    entries = found(_Place(path, whole))
                finally:
                    whole.release()
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}") from error
    if not entries:
        raise FormatError(f"{path} has no entries: it is no importance matrix")
    for name, entry in entries.items():
        _check(path, name, entry)
    return entries


def _check(path: Path, name: str, entry: Entry) -> None:
    for values in (entry.sums, entry.counts):
        if not np.isfinite(values).all() or (values < 0).any():
            raise FormatError(f"{path}: {name} has sums of squares or counts that are none")
    if len(entry.counts) != len(entry.sums) or not entry.sums.size:
        raise FormatError(
            f"{path}: {name} has {len(entry.counts)} counts and {len(entry.sums)} rows of sums"
        )


class _Place:
    """A place in a file that moves on, and never beyond the end."""

    def __init__(self, path: Path, data: memoryview) -> None:
        self.path, self.data, self.at = path, data, 0

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, count: int) -> memoryview:
        if not 0 <= count <= self.left:
            raise self.damaged("it ends too early")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, code: str) -> int:
        value: int = struct.unpack("<" + code, self.take(struct.calcsize(code)))[0]
        return value

    def text(self, length: int) -> str:
        try:
            return bytes(self.take(length)).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.damaged("a name is not UTF-8") from error

    def damaged(self, what: str) -> FormatError:
        return FormatError(f"{self.path} is no readable importance matrix ({what})")


def _read_older(place: _Place) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for _ in range(max(place.number("i"), 0)):
        length = place.number("i")
        if not 0 < length <= _LONGEST:
            raise place.damaged(f"a name of {length} bytes")
        name = place.text(length)
        calls, count = place.number("i"), place.number("i")
        if count < 1 or calls < 0 or name in entries:
            raise place.damaged(f"{name!r} has {count} values of {calls} calls, or comes twice")
        values = np.frombuffer(place.take(4 * count), "<f4").astype(np.float32)
        # Sums that nothing was counted for are taken as they are.
        counts = np.array([max(calls, 1)], np.float32)
        entries[name] = Entry(values[None], counts)
    return entries


def _read_gguf(place: _Place) -> dict[str, Entry]:
    place.take(len(_MAGIC))
    version = place.number("I")
    if version not in (2, 3):
        raise place.damaged(f"GGUF of version {version}; 2 and 3 are read")
    tensors, fields = place.number("Q"), place.number("Q")
    known: dict[str, str | int] = {}
    for _ in range(fields):
        key = place.text(place.number("Q"))
        value = _value(place, place.number("I"))
        if value is not None:
            known[key] = value
    if known.get(TYPE) != "imatrix":
        raise place.damaged(f"{TYPE} is {known.get(TYPE)!r}, and not 'imatrix'")
    shapes = dict(_shape(place) for _ in range(tensors))
    alignment = known.get("general.alignment", _ALIGNMENT)
    if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
        raise place.damaged(f"general.alignment is {alignment!r}")
    start = place.at + -place.at % alignment
    arrays = {name: _array(place, start, *of) for name, of in shapes.items()}
    names = [name.removesuffix(SUMS) for name in arrays if name.endswith(SUMS)]
    lacking = [name for name in names if name + COUNTS not in arrays]
    if lacking:
        raise place.damaged(f"{lacking[0]} has no counts")
    return {name: Entry(arrays[name + SUMS], arrays[name + COUNTS].reshape(-1)) for name in names}


def _value(place: _Place, kind: int) -> str | int | None:
    """Pass a value; a text or a number of 32 bits is handed back."""
    if kind == _UINT32:
        return place.number("I")
    if kind in _SIZES:
        place.take(_SIZES[kind])
    elif kind == _STRING:
        return place.text(place.number("Q"))
    elif kind == _ARRAY:
        inner, count = place.number("I"), place.number("Q")
        if inner in _SIZES:
            place.take(count * _SIZES[inner])
        elif inner == _STRING:
            for _ in range(count):
                place.take(place.number("Q"))
        else:
            raise place.damaged(f"an array of the type {inner}")
    else:
        raise place.damaged(f"a value of the type {kind}")
    return None


def _shape(place: _Place) -> tuple[str, tuple[tuple[int, ...], int]]:
    """Name, sides (the fastest last), and offset of a tensor."""
    name, sides = place.text(place.number("Q")), place.number("I")
    if not 1 <= sides <= 2:
        raise place.damaged(f"{name!r} has {sides} sides, where one or two are expected")
    shape = tuple(place.number("Q") for _ in range(sides))[::-1]
    if 0 in shape:
        raise place.damaged(f"{name!r} is empty, of the shape {shape}")
    kind, offset = place.number("I"), place.number("Q")
    if kind != _FLOAT32:
        raise place.damaged(f"{name!r} is of the type {kind}, where float32 is expected")
    return name, (shape, offset)


def _array(place: _Place, start: int, shape: tuple[int, ...], offset: int) -> NDArray[np.float32]:
    rows, columns = (1, *shape)[-2:]
    place.at = min(start + offset, len(place.data))
    values = np.frombuffer(place.take(4 * rows * columns), "<f4").astype(np.float32)
    return values.reshape(rows, columns)


def imatrix_bytes(entries: dict[str, Entry], dataset: str, chunks: int, chunk_size: int) -> bytes:
    """A GGUF file of version 3 that llama-quantize takes for ``--imatrix``.

    Parameters
    ----------
    entries : dict
        By GGUF name of the tensor.
    dataset : str
        What text was read, for people.
    chunks, chunk_size : int
        Windows of text, and the tokens of each.
    """
    tensors: dict[str, NDArray[np.float32]] = {}
    for name, entry in sorted(entries.items()):
        tensors[name + SUMS], tensors[name + COUNTS] = entry.sums, entry.counts[:, None]
    fields = [
        _field(TYPE, _STRING, _string("imatrix")),
        _field(DATASETS, _ARRAY, struct.pack("<IQ", _STRING, 1) + _string(dataset)),
        _field(CHUNKS, _UINT32, struct.pack("<I", chunks)),
        _field(CHUNK_SIZE, _UINT32, struct.pack("<I", chunk_size)),
    ]
    header = [_MAGIC, struct.pack("<IQQ", 3, len(tensors), len(fields)), *fields]
    offset, data = 0, []
    for name, values in tensors.items():
        header.append(_string(name) + struct.pack("<IQQIQ", 2, *values.shape[::-1], 0, offset))
        data.append(_padded(np.ascontiguousarray(values, "<f4").tobytes()))
        offset += len(data[-1])
    return _padded(b"".join(header)) + b"".join(data)


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % _ALIGNMENT)


def _string(text: str) -> bytes:
    content = text.encode("utf-8")
    return struct.pack("<Q", len(content)) + content


def _field(key: str, kind: int, value: bytes) -> bytes:
    return _string(key) + struct.pack("<I", kind) + value
