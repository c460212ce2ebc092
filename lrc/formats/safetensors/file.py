"""Read safetensors files, BF16 included.

The file is ``u64`` header length N (little endian), N bytes of JSON, then the tensors' bytes
back to back. Each header entry is ``{"dtype", "shape", "data_offsets": [begin, end]}`` with
offsets counted from the end of the header; ``__metadata__`` maps strings to strings.
Source: https://github.com/huggingface/safetensors (format section).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.lfs import refuse_pointer
from lrc.base.strict_json import parse_object
from lrc.errors import FormatError
from lrc.formats.safetensors.dtypes import BITS, NUMPY
from lrc.formats.stored import widen

_MAX_HEADER = 100_000_000
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
        if info.dtype not in NUMPY:
            return raw
        return raw.view(NUMPY[info.dtype]).reshape(info.shape)

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
    if not isinstance(dtype, str) or dtype not in BITS:
        raise FormatError(f"{where} has the unknown dtype {dtype!r}; known: {', '.join(BITS)}")
    if not _natural(shape) or len(shape) > _MOST_SIDES or math.prod(filter(None, shape)) >> 58:
        raise FormatError(
            f"{where} has shape {shape!r:.80}; expected at most {_MOST_SIDES} integers >= 0, "
            "of a product that memory can hold"
        )
    if not _natural(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise FormatError(f"{where} has data_offsets {offsets!r}; expected 0 <= begin <= end")
    bits = math.prod(shape) * BITS[dtype]
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
