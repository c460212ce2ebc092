"""A compressed matrix as tensors and a record, and back; `lrc.parts.packed` says what they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.errors import FormatError
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.parts import PARTS
from lrc.parts.base import Part, PartRecord
from lrc.parts.layout import borrowed_tensors, check_tensor, placed, stored_layout
from lrc.parts.matrix import PackedMatrix


def matrix_tensors(name: str, matrix: PackedMatrix) -> dict[str, NDArray[Any]]:
    """The tensors that store ``matrix`` under ``name``."""
    tensors: dict[str, NDArray[Any]] = {f"{name}.gain": np.array([matrix.gain], np.float32)}
    for side, signs in (("signs_in", matrix.signs_in), ("signs_out", matrix.signs_out)):
        if signs is not None:
            tensors[f"{name}.{side}"] = signs
    places = placed(name, [part.record() for part in matrix.parts])
    for part, (where, _) in zip(matrix.parts, places, strict=True):
        tensors |= {f"{where}.{tensor}": array for tensor, array in part.tensors().items()}
    return tensors


def matrix_record(matrix: PackedMatrix) -> dict[str, Any]:
    """The fields of a record that decoding needs, and the bits it costs."""
    return {
        "shape": list(matrix.shape),
        "rotation": matrix.rotation,
        "parts": [part.record() for part in matrix.parts],
        "bits_per_weight": matrix.bits_per_weight,
    }


#: The file that holds a tensor, by its name in the whole directory.
Owner = Callable[[str], SafetensorsFile]


def read_matrix(
    file: SafetensorsFile, name: str, record: Mapping[str, Any], owner: Owner | None = None
) -> PackedMatrix:
    """Rebuild the matrix ``name``; arrays are views of the memory map.

    ``owner`` finds what its parts borrow of other matrices; ``file`` holds that without it.

    Raises
    ------
    FormatError
        If the record or a tensor is missing, does not fit or holds a value that is not finite.
    """
    arrays = {tensor: file.read(tensor) for tensor in stored_layout(file, name, record)}
    for tensor, spec in borrowed_tensors(record).items():
        holder = owner(tensor) if owner is not None else file
        check_tensor(holder, tensor, spec)
        arrays[tensor] = holder.read(tensor)
    for tensor, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise FormatError(f"{file.path}: tensor {tensor} has values that are not finite")
    m, n = record["shape"]

    def part(where: str, fields: PartRecord) -> Part:
        kind = PARTS[fields["kind"]]
        own = {tensor: arrays[f"{where}.{tensor}"] for tensor in kind.layout(fields, (m, n))}
        others = kind.borrowed(fields, (m, n)).items()
        return kind.read(fields, (m, n), own | {t: arrays[place] for t, (place, _) in others})

    return PackedMatrix(
        shape=(m, n),
        gain=float(arrays[f"{name}.gain"][0]),
        rotation=record["rotation"],
        signs_in=arrays.get(f"{name}.signs_in"),
        signs_out=arrays.get(f"{name}.signs_out"),
        parts=tuple(part(where, fields) for where, fields in placed(name, record["parts"])),
    )
