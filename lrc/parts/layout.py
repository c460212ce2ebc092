"""Which tensors store one compressed matrix, of which dtypes and shapes: known before any byte."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lrc.errors import FormatError
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.formats.safetensors.writing import TensorSpec
from lrc.parts import PARTS
from lrc.parts.base import PartRecord, Specs
from lrc.parts.fields import (
    EMBEDDING,
    HEAD,
    LIST,
    MANIFEST,
    MATRIX,
    NUMBER,
    SHAPE,
    TEXT,
    check_fields,
)
from lrc.parts.signs import ROTATIONS, sign_specs

_FIELDS = {"shape": SHAPE, "rotation": TEXT, "parts": LIST, "bits_per_weight": NUMBER}


def check_record(name: str, record: Any) -> None:
    """Refuse a matrix's record that lacks a field or holds one of the wrong type.

    Raises
    ------
    FormatError
        Naming matrix and field.
    """
    check_fields(name, record, _FIELDS)
    if record["rotation"] not in ROTATIONS:
        raise FormatError(
            f"{MANIFEST}: the record of {name} has rotation {record['rotation']!r}, "
            f"none of {', '.join(ROTATIONS)}"
        )
    if record.get("role", MATRIX) not in (MATRIX, EMBEDDING, HEAD):
        raise FormatError(
            f"{MANIFEST}: the record of {name} has role {record['role']!r}, not one of {MATRIX}, "
            f"{EMBEDDING}, {HEAD}"
        )
    for i, part in enumerate(record["parts"]):
        what = f"part {i} of {name}"
        check_fields(what, part, {"kind": TEXT})
        if part["kind"] not in PARTS:
            raise FormatError(
                f"{MANIFEST}: {what} is of kind {part['kind']!r}; this library knows "
                f"{', '.join(PARTS)}: upgrade lrc"
            )
        check_fields(what, part, PARTS[part["kind"]].fields)


def placed(name: str, parts: Sequence[PartRecord]) -> Iterator[tuple[str, PartRecord]]:
    """Each part with the name that its tensors' names are appended to.

    The first of a kind stands directly under ``name``, a further one under its place in the list.

    Examples
    --------
    >>> [where for where, _ in placed("w", [{"kind": "a"}, {"kind": "b"}, {"kind": "a"}])]
    ['w', 'w', 'w.2']
    """
    kinds: set[str] = set()
    for i, part in enumerate(parts):
        yield (f"{name}.{i}" if part["kind"] in kinds else name), part
        kinds.add(part["kind"])


def matrix_layout(name: str, record: Mapping[str, Any]) -> Specs:
    """The tensors of the matrix ``name`` as :mod:`lrc.parts.packed` says.

    Of ``record``, which :func:`check_record` accepts, ``shape``, ``rotation`` and ``parts`` count.

    Raises
    ------
    FormatError
        There is no such part of a matrix of this shape.
    """
    m, n = record["shape"]
    specs = {f"{name}.gain": TensorSpec("F32", (1,))}
    for side, spec in sign_specs(record["rotation"], (m, n)).items():
        specs[f"{name}.{side}"] = spec
    for where, part in placed(name, record["parts"]):
        layout = PARTS[part["kind"]].layout(part, (m, n))
        specs |= {f"{where}.{tensor}": spec for tensor, spec in layout.items()}
    return specs


def stored_layout(file: SafetensorsFile, name: str, record: Mapping[str, Any]) -> Specs:
    """The tensors of the matrix ``name`` in ``file``, each of which the header was asked for.

    No value is read.

    Raises
    ------
    FormatError
        The record is malformed, or a tensor is missing or is not what the record implies.
    """
    check_record(name, record)
    specs = matrix_layout(name, record)
    for tensor, spec in specs.items():
        check_tensor(file, tensor, spec)
    return specs


def check_tensor(file: SafetensorsFile, tensor: str, spec: TensorSpec) -> None:
    """Refuse a tensor that is missing or not what a record implies; no value is read.

    Raises
    ------
    FormatError
        Naming file and tensor.
    """
    info = file.info(tensor)
    if (info.dtype, info.shape) != (spec.dtype, spec.shape):
        raise FormatError(
            f"{file.path}: tensor {tensor} is {info.dtype} {info.shape}, "
            f"and {MANIFEST} implies {spec.dtype} {spec.shape}"
        )


def borrowed_tensors(record: Mapping[str, Any]) -> Specs:
    """What the parts of a matrix read of other matrices, by name in the whole directory."""
    m, n = record["shape"]
    found = (PARTS[part["kind"]].borrowed(part, (m, n)) for part in record["parts"])
    return {place: spec for of in found for place, spec in of.values()}


def stored_bytes(specs: Mapping[str, TensorSpec]) -> int:
    """Bytes of tensors, headers not counted."""
    return sum(spec.nbytes for spec in specs.values())
