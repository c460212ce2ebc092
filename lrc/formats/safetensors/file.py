"""Read and write safetensors files, BF16 included.

The file is ``u64`` header length N (little endian), N bytes of JSON, then the tensors' bytes
back to back. Each header entry is ``{"dtype", "shape", "data_offsets": [begin, end]}`` with
offsets counted from the end of the header; ``__metadata__`` maps strings to strings.
Source: https://github.com/huggingface/safetensors (format section).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.lfs import refuse_pointer
from lrc.base.strict_json import parse_object
from lrc.errors import FormatError
from lrc.formats.stored import widen

#: Bits of one element; BF16 and the narrow floats have no NumPy type and are read as integers.
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
    "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64, "F8_E4M3": 8, "F8_E5M2": 8,
    "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
_NUMPY = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8",
    "C64": "<c8", "F8_E4M3": "u1", "F8_E5M2": "u1", "F8_E8M0": "u1",
}  # fmt: skip
_NAMES = {
    np.dtype(code): name
    for name, code in _NUMPY.items()
    if name not in ("BF16", "F8_E4M3", "F8_E5M2", "F8_E8M0")
}
_MAX_HEADER = 100_000_000
_ALIGNMENT = 64
_MOST_SIDES = 32


@dataclass(frozen=True)
class TensorInfo:
    """One header entry: safetensors dtype name, shape, and byte range within the data."""

    dtype: str
    shape: tuple[int, ...]
    span: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Bytes the tensor takes."""
        return self.span[1] - self.span[0]


class SafetensorsFile:
    """A memory-mapped safetensors file whose whole header was checked on opening.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    FormatError
        Unreadable, truncated or oversized header; an entry that is malformed, overlaps
        another or leaves a gap; bytes after the last tensor; a key given twice.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        refuse_pointer(self.path)
        try:
            size = self.path.stat().st_size
            with self.path.open("rb") as stream:
                length = int.from_bytes(stream.read(8), "little")
                _check_length(self.path, size, length)
                header = parse_object(stream.read(length), f"header of {self.path}")
        except OSError as error:
            raise FormatError(f"cannot read {path}: {error.strerror or error}") from error
        self.metadata = _metadata(self.path, header.pop("__metadata__", {}))
        self._infos = {name: _entry(self.path, name, header[name]) for name in sorted(header)}
        _check_layout(self.path, self._infos, size - 8 - length)
        self._data: NDArray[np.uint8] | None = np.memmap(self.path, dtype=np.uint8, mode="r")[
            8 + length :
        ]

    @property
    def names(self) -> tuple[str, ...]:
        """Tensor names, sorted."""
        return tuple(self._infos)

    def info(self, name: str) -> TensorInfo:
        """Dtype, shape and byte range of one tensor; FormatError when there is none."""
        try:
            return self._infos[name]
        except KeyError:
            raise FormatError(f"{self.path} has no tensor {name!r}") from None

    def read(self, name: str) -> NDArray[Any]:
        """Read-only view of the stored bytes; BF16 comes as uint16, 8-bit floats as uint8.

        Types narrower than a byte come as a flat uint8 array.
        """
        info = self.info(name)
        if self._data is None:
            raise FormatError(f"{self.path} was closed; open the model again")
        raw = np.asarray(self._data[slice(*info.span)])
        if info.dtype not in _NUMPY:
            return raw
        return raw.view(_NUMPY[info.dtype]).reshape(info.shape)

    def close(self) -> None:
        """Let go of the file: it is unmapped when the last array that was read is gone."""
        self._data = None

    def check_dtype(self, name: str) -> TensorInfo:
        """Header entry of a tensor that :meth:`float32` can widen.

        Raises
        ------
        FormatError
            The tensor is absent, or is not F64, F32, F16 or BF16.
        """
        info = self.info(name)
        if info.dtype not in ("F64", "F32", "F16", "BF16"):
            raise FormatError(
                f"tensor {name!r} of {self.path} is stored as {info.dtype}; expected F32, F16 or "
                "BF16 weights (an already quantised checkpoint cannot be read)"
            )
        return info

    def float32(self, name: str) -> NDArray[np.float32]:
        """Widen a tensor that :meth:`check_dtype` accepts; aligned F32 is a read-only view."""
        self.check_dtype(name)
        return widen(self.read(name))


def _check_length(path: Path, size: int, length: int) -> None:
    if size < 8:
        raise FormatError(
            f"{path} has {size} bytes; a safetensors file has at least 8: fetch it again"
        )
    if length > size - 8:
        raise FormatError(
            f"{path} announces a header of {length} bytes but has {size - 8} after the length; "
            "it is truncated or not a safetensors file"
        )
    if length > _MAX_HEADER:
        raise FormatError(
            f"{path} has a header of {length} bytes; at most {_MAX_HEADER} are read: it is "
            "damaged, or no safetensors file"
        )


def _metadata(path: Path, found: Any) -> dict[str, str]:
    if not isinstance(found, dict) or not all(isinstance(v, str) for v in found.values()):
        raise FormatError(f"{path}: __metadata__ must map strings to strings")
    return found


def _entry(path: Path, name: str, entry: Any) -> TensorInfo:
    """Check one header entry by itself."""
    where = f"{path}: tensor {name!r}"
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{where} needs exactly the keys dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise FormatError(f"{where} has the unknown dtype {dtype!r}; known: {', '.join(_BITS)}")
    if not _natural(shape) or len(shape) > _MOST_SIDES or math.prod(filter(None, shape)) >> 58:
        raise FormatError(
            f"{where} has shape {shape!r:.80}; expected at most {_MOST_SIDES} integers >= 0, "
            "of a product that memory can hold"
        )
    if not _natural(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise FormatError(f"{where} has data_offsets {offsets!r}; expected 0 <= begin <= end")
    bits = math.prod(shape) * _BITS[dtype]
    if bits % 8 or bits // 8 != offsets[1] - offsets[0]:
        raise FormatError(
            f"{where} spans {offsets[1] - offsets[0]} bytes but {dtype} of shape {shape} "
            f"needs {bits / 8:g}"
        )
    return TensorInfo(dtype, tuple(shape), (offsets[0], offsets[1]))


def _natural(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)


def _check_layout(path: Path, infos: Mapping[str, TensorInfo], nbytes: int) -> None:
    """Tensors must tile the data: no overlap, no gap, nothing beyond, nothing left over."""
    at = 0
    for name, info in sorted(infos.items(), key=lambda item: item[1].span):
        begin, end = info.span
        if end > nbytes:
            raise FormatError(
                f"{path}: tensor {name!r} ends at byte {end} of {nbytes}; the file is truncated"
            )
        if begin != at:
            kind = "overlaps the tensor before it" if begin < at else "leaves a gap before it"
            raise FormatError(f"{path}: tensor {name!r} {kind} (starts at {begin}, not {at})")
        at = end
    if at != nbytes:
        raise FormatError(f"{path} has {nbytes - at} bytes after its last tensor")


@dataclass(frozen=True)
class TensorSpec:
    """What the writer must know of a tensor before it sees it."""

    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, array: NDArray[Any]) -> TensorSpec:
        """Spec of an array in its own dtype."""
        name = _NAMES.get(array.dtype.newbyteorder("<"))
        if name is None:
            raise TypeError(f"safetensors has no dtype for {array.dtype}")
        return cls(name, tuple(array.shape))

    @property
    def nbytes(self) -> int:
        """Bytes the tensor takes."""
        return math.prod(self.shape) * _BITS[self.dtype] // 8


def write_order(specs: Mapping[str, TensorSpec]) -> tuple[str, ...]:
    """Names in the order of the file: widest elements first, then by name, so all are aligned."""
    return tuple(sorted(specs, key=lambda name: (-_BITS[specs[name].dtype], name)))


def _header(specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> bytes:
    """The JSON of a file, padded so that the tensors begin aligned."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    at = 0
    for name in write_order(specs):
        spec, end = specs[name], at + specs[name].nbytes
        header[name] = {"dtype": spec.dtype, "shape": spec.shape, "data_offsets": [at, end]}
        at = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return text + b" " * (-(len(text) + 8) % _ALIGNMENT)


def file_size(specs: Mapping[str, TensorSpec], metadata: Mapping[str, str]) -> int:
    """Bytes of the file that :func:`stream_safetensors` writes, header included."""
    return 8 + len(_header(specs, metadata)) + sum(spec.nbytes for spec in specs.values())


def stream_safetensors(
    path: Path,
    specs: Mapping[str, TensorSpec],
    arrays: Iterable[NDArray[Any]],
    metadata: Mapping[str, str],
) -> str:
    """Write a file of which one tensor at a time is in memory; its SHA-256, in hex.

    Parameters
    ----------
    path
        The file; replaced when it exists. It is synced to disk before returning.
    specs
        Every tensor, by name.
    arrays
        The arrays in the order of ``write_order(specs)``; BF16 as uint16.
    metadata
        Strings for ``__metadata__``.
    """
    order = write_order(specs)
    text = _header(specs, metadata)
    checksum = hashlib.sha256()
    with path.open("wb") as stream:

        def write(content: bytes | memoryview) -> None:
            checksum.update(content)
            stream.write(content)

        write(len(text).to_bytes(8, "little") + text)
        for name, array in zip(order, arrays, strict=True):
            stored = np.dtype(_NUMPY[specs[name].dtype])
            if array.dtype.newbyteorder("<") != stored or array.shape != specs[name].shape:
                raise TypeError(f"{name}: got {array.dtype}{array.shape}, not {specs[name]}")
            write(np.ascontiguousarray(array, stored).reshape(-1).view(np.uint8).data)
        stream.flush()
        os.fsync(stream.fileno())
    return checksum.hexdigest()


def write_safetensors(
    path: Path, tensors: Mapping[str, NDArray[Any]], metadata: Mapping[str, str] | None = None
) -> str:
    """Write ``tensors`` in their own dtypes; equal arguments give equal bytes. SHA-256, in hex."""
    specs = {name: TensorSpec.of(array) for name, array in tensors.items()}
    arrays = (tensors[name] for name in write_order(specs))
    return stream_safetensors(Path(path), specs, arrays, metadata or {})


def check_written(path: Path, tensors: Mapping[str, NDArray[Any]]) -> None:
    """Read a file back and compare it with the ``tensors`` it was written from, byte by byte.

    Raises
    ------
    FormatError
        A tensor is missing or differs.
    """
    file = SafetensorsFile(path)
    for name, array in tensors.items():
        stored = file.read(name)
        same = (stored.dtype, stored.shape) == (array.dtype, array.shape)
        if not same or stored.tobytes() != array.tobytes():
            raise FormatError(
                f"{path}: tensor {name} does not read back as it was written; check the disk"
            )
