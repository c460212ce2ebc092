"""Tuned numbers into a compressed model's directory: all of them at once, or none.

Files with something new are written beside those that they follow, under names of their own. Then
`lrc.json`, which names the files, is replaced in one step, and what it no longer names is removed.
Codes are copied as they are.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from lrc.base.partial import sync_directory
from lrc.formats.safetensors.checkpoint import file_digest
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.formats.safetensors.writing import check_written, write_safetensors
from lrc.measure.storage import storage
from lrc.models.tensors import weight_of
from lrc.parts.codes import Codes
from lrc.parts.low_rank import LowRank
from lrc.parts.manifest import CHECKSUMS, FORMAT_VERSION, read_manifest, write_manifest
from lrc.parts.matrix import PackedMatrix
from lrc.parts.packed import PackedCheckpoint, matrix_record, matrix_tensors
from lrc.parts.signs import kernel_signs, pack_real_signs, rotation_of, unpack_signs
from lrc.refine.tunables import OF_MATRIX
from lrc.refine.vjp import Array

_TUNED = re.compile(r"(.+?)(?:\.tuned-(\d+))?\.safetensors")
Values: TypeAlias = Mapping[tuple[str, str], Array]
_Kind = TypeVar("_Kind", Codes, LowRank)


def rounded(source: PackedCheckpoint, values: Values) -> dict[tuple[str, str], Array]:
    """The values that a reader finds where these are stored: scales and factors have 16 bits."""
    found: dict[tuple[str, str], Array] = {}
    for (name, what), value in values.items():
        stored = value.astype(np.float32)
        if what in ("left", "right") or (what == "biases" and _is_short(source, name)):
            stored = stored.astype(np.float16).astype(np.float32)
        if what in ("signs_in", "signs_out"):
            stored = kernel_signs(_codes(source.linear(name), what, stored))
        if what in ("rows", "components"):
            matrix = source.linear(name)
            assert isinstance(matrix, PackedMatrix)
            if what == "rows":
                scales = _one(matrix, Codes).scales[:, 0]
            else:
                scales = _one(matrix, LowRank).left.scales
            wide = scales.astype(np.float32)
            stored = (wide * stored).astype(np.float16).astype(np.float32) / wide
        found[name, what] = stored
    return found


def changed_matrix(matrix: PackedMatrix, new: Mapping[str, Array]) -> PackedMatrix:
    """The same codes with other numbers beside them, by kind: see `lrc.refine.tunables`."""
    parts, gain = list(matrix.parts), matrix.gain
    signs = {s: _codes(matrix, s, new[s]) for s in ("signs_in", "signs_out") if s in new}
    if "gains" in new:
        gain = float(new["gains"][0])
    for i, part in enumerate(parts):
        if isinstance(part, Codes) and "rows" in new:
            scales = part.scales.astype(np.float32) * new["rows"][:, None]
            parts[i] = dataclasses.replace(part, scales=scales.astype(np.float16))
        if isinstance(part, LowRank):
            parts[i] = _changed_factors(part, new)
    signs_in = signs.get("signs_in", matrix.signs_in)
    signs_out = signs.get("signs_out", matrix.signs_out)
    return dataclasses.replace(
        matrix, gain=gain, parts=tuple(parts), rotation=rotation_of(signs_in, signs_out),
        signs_in=signs_in, signs_out=signs_out,
    )  # fmt: skip


def _codes(matrix: Any, side: str, values: Array) -> NDArray[np.int8]:
    """Tuned numbers in the place of a matrix's signs, packed."""
    signs = unpack_signs(getattr(matrix, side), len(values))
    assert signs is not None
    return pack_real_signs(values, signs)


def _changed_factors(part: LowRank, new: Mapping[str, Array]) -> LowRank:
    left, right = part.left, part.right
    if "components" in new:
        scales = left.scales.astype(np.float32) * new["components"]
        left = dataclasses.replace(left, scales=scales.astype(np.float16))
    if "left" in new:
        left = dataclasses.replace(left, words=new["left"].astype(np.float16))
    if "right" in new:
        right = dataclasses.replace(right, words=new["right"].astype(np.float16))
    return dataclasses.replace(part, left=left, right=right)


def save(
    folder: Path, source: PackedCheckpoint, values: Values, summary: Mapping[str, Any], number: int
) -> None:
    """Store tuned values, and say so under ``tuned`` in the manifest.

    Parameters
    ----------
    folder : Path
        Directory of the compressed model.
    source : PackedCheckpoint
        The model as it was when tuning began: scales of rows are multiples of those there.
    values : mapping
        By name of tensor or matrix, and what of it: see `lrc.refine.tunables`. What an earlier
        call has stored since tuning began is stored again.
    summary : mapping
        What is said of them.
    number : int
        Part of the names of new files, beside what ``source`` has there: 1 or more, and another one
        for other values.

    Raises
    ------
    OutputError
        Something cannot be written; then the directory is what it was.
    FormatError
        What was written does not read back.
    """
    new, records = _tensors(source, values)
    added = [name for name, what in values if what == "biases" and not source.has(name)]
    names: list[str] = []
    checksums = dict(source.report.get(CHECKSUMS, {}))
    for name in source.report["files"]:
        file = SafetensorsFile(source.path / name)
        mine = {tensor: new[tensor] for tensor in file.names if tensor in new}
        mine |= {name: new[name] for name in added if _beside(name) in file.names}
        if mine:
            old = {tensor: file.read(tensor) for tensor in file.names if tensor not in mine}
            tensors = old | mine
            checksums.pop(name, None)
            name = _new_name(name, number)
            if name not in files_of(folder):  # else an interrupted run has written the same
                checksums[name] = write_safetensors(folder / name, tensors, file.metadata)
            else:
                checksums[name] = file_digest(folder / name).hex()
            check_written(folder / name, tensors)
        names.append(name)
    matrices = {
        name: old | records.get(name, {}) for name, old in source.report["matrices"].items()
    }
    tuned = [*source.report.get("tuned", []), dict(summary)]
    changes = {"version": FORMAT_VERSION, "files": names, "matrices": matrices, "tuned": tuned}
    if CHECKSUMS in source.report:
        changes[CHECKSUMS] = dict(sorted(checksums.items()))
    sync_directory(folder)  # the manifest says that all else is there
    write_manifest(folder, source.report | changes)
    remove_superseded(folder, names)


def remove_superseded(folder: Path, names: list[str]) -> None:
    """Remove what tuning has left of files that the manifest, which has ``names``, does not name.

    Where a file cannot be removed it stays: nothing reads it.
    """
    stems = {match[1] for name in names if (match := _TUNED.fullmatch(name)) and match[2]}
    for path in sorted(folder.glob("*.safetensors")):
        match = _TUNED.fullmatch(path.name)
        if path.name not in names and match and (match[2] or match[1] in stems):
            with contextlib.suppress(OSError):
                path.unlink()


def files_of(folder: Path) -> list[str]:
    """The files that the manifest of a directory names."""
    names: list[str] = read_manifest(folder)["files"]
    return names


def linear_bits(model: Path | PackedCheckpoint) -> float:
    """Bits a weight of the linear layers."""
    source = PackedCheckpoint.open(model) if isinstance(model, Path) else model
    return storage(source)["bits_per_weight_linear"] or 0.0


def _new_name(name: str, number: int) -> str:
    match = _TUNED.fullmatch(name)
    assert match is not None
    return f"{match[1]}.tuned-{int(match[2] or 0) + number}.safetensors"


def _tensors(
    source: PackedCheckpoint, values: Values
) -> tuple[dict[str, NDArray[Any]], dict[str, dict[str, Any]]]:
    """Tensors with new values by the names under which they are stored, and records of matrices."""
    tensors: dict[str, NDArray[Any]] = {}
    records: dict[str, dict[str, Any]] = {}
    for (name, what), value in values.items():
        if what not in OF_MATRIX:
            short = what == "biases" and _is_short(source, name)
            tensors[name] = value.astype(np.float16 if short else np.float32)
    for name in dict.fromkeys(name for name, what in values if what in OF_MATRIX):
        matrix = source.linear(name)
        assert isinstance(matrix, PackedMatrix)
        new = {kind: values[name, kind] for kind in OF_MATRIX if (name, kind) in values}
        made = changed_matrix(matrix, new)
        tensors |= matrix_tensors(name, made)
        records[name] = matrix_record(made)
    return tensors, records


def _is_short(source: PackedCheckpoint, bias: str) -> bool:
    """Whether a bias is stored in 16 bits: one that tuning has added, or adds."""
    return not source.has(bias) or source.stored_bytes(bias) == 2 * math.prod(source.shape(bias))


def _beside(bias: str) -> str:
    """A tensor of the matrix that a bias belongs to."""
    return weight_of(bias.removesuffix(".bias")) + ".gain"


def _one(matrix: PackedMatrix, kind: type[_Kind]) -> _Kind:
    (part,) = (part for part in matrix.parts if isinstance(part, kind))
    return part
