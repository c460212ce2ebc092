"""Which tensors store one compressed matrix, of which dtypes and shapes: known before any byte."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lrc.codebooks import get_codebook
from lrc.errors import FormatError
from lrc.formats.safetensors.file import SafetensorsFile, TensorSpec
from lrc.parts.manifest import MANIFEST, check_record
from lrc.parts.matrix import NO_CODEBOOK, ROTATIONS

#: Tensor to dtype and shape.
Specs = dict[str, TensorSpec]
_PLANES = {np.dtype(np.uint8): "U8", np.dtype(np.uint16): "U16"}


def matrix_layout(
    name: str,
    shape: tuple[int, int],
    *,
    codebook: str,
    bits: int,
    group_size: int,
    rotated: bool,
    rank: int,
    factor_bits: int,
    scale_rows: int,
) -> Specs:
    """The tensors of the matrix ``name`` of ``shape`` (m, n) as :mod:`lrc.parts.packed` says.

    ``scale_rows`` is 1 or m.

    Raises
    ------
    FormatError
        There is no such codebook, or not of these bits and rows.
    """
    m, n = shape
    without = (codebook, bits) == (NO_CODEBOOK, 0)
    planes = () if without else get_codebook(codebook, bits).layout(m, n)
    specs = {
        f"{name}.codes.{i}": TensorSpec(_PLANES[dtype], plane)
        for i, (dtype, plane) in enumerate(planes)
    }
    if planes:
        groups = -(-n // group_size) if group_size else 1
        specs[f"{name}.scales"] = TensorSpec("F16", (scale_rows, groups))
    specs[f"{name}.gain"] = TensorSpec("F32", (1,))
    if rotated:
        specs[f"{name}.signs_in"] = TensorSpec("U8", (-(-n // 8),))
        specs[f"{name}.signs_out"] = TensorSpec("U8", (-(-m // 8),))
    for side, length in (("left", m), ("right", n)):
        if rank and factor_bits == 16:
            specs[f"{name}.{side}"] = TensorSpec("F16", (rank, length))
            specs[f"{name}.{side}_scales"] = TensorSpec("F16", (0,))
        elif rank:
            specs[f"{name}.{side}"] = TensorSpec("U8", (rank, -(-length * factor_bits // 8)))
            specs[f"{name}.{side}_scales"] = TensorSpec("F16", (rank,))
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
    m, n = record["shape"]
    rotation, scales = record["rotation"], f"{name}.scales"
    if rotation not in ROTATIONS:
        raise FormatError(
            f"{MANIFEST}: the record of {name} has rotation {rotation!r}, not in {ROTATIONS}"
        )
    by_row = record["codebook"] != NO_CODEBOOK and file.info(scales).shape[:1] == (m,)
    specs = matrix_layout(
        name,
        (m, n),
        codebook=record["codebook"],
        bits=record["bits"],
        group_size=record["group_size"],
        rotated=rotation == "hadamard",
        rank=record["rank"],
        factor_bits=record["factor_bits"],
        scale_rows=m if by_row else 1,
    )
    for tensor, spec in specs.items():
        info = file.info(tensor)
        if (info.dtype, info.shape) != (spec.dtype, spec.shape):
            raise FormatError(
                f"{file.path}: tensor {tensor} is {info.dtype} {info.shape}, "
                f"and {MANIFEST} implies {spec.dtype} {spec.shape}"
            )
    return specs


def stored_bytes(specs: Mapping[str, TensorSpec]) -> int:
    """Bytes of tensors, headers not counted."""
    return sum(spec.nbytes for spec in specs.values())
