"""Write safetensors files: the same bytes for the same tensors, one of them in memory at a time."""

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

from lrc.errors import FormatError
from lrc.formats.safetensors.dtypes import BITS, NAMES, NUMPY
from lrc.formats.safetensors.file import SafetensorsFile

_ALIGNMENT = 64


@dataclass(frozen=True)
class TensorSpec:
    """What the writer must know of a tensor before it sees it."""

    dtype: str
    shape: tuple[int, ...]

    @classmethod
    def of(cls, array: NDArray[Any]) -> TensorSpec:
        """Spec of an array in its own dtype."""
        name = NAMES.get(array.dtype.newbyteorder("<"))
        if name is None:
            raise TypeError(f"safetensors has no dtype for {array.dtype}")
        return cls(name, tuple(array.shape))

    @property
    def nbytes(self) -> int:
        """Bytes the tensor takes."""
        return math.prod(self.shape) * BITS[self.dtype] // 8


def write_order(specs: Mapping[str, TensorSpec]) -> tuple[str, ...]:
    """Names in the order of the file: widest elements first, then by name, so all are aligned."""
    return tuple(sorted(specs, key=lambda name: (-BITS[specs[name].dtype], name)))


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
            stored = np.dtype(NUMPY[specs[name].dtype])
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
