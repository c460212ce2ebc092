"""What lies around the blocks of a compressed model: its embedding and its head."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.own_files import reading
from lrc.codebooks import TABLES
from lrc.errors import NumericalError
from lrc.formats.pages import release_pages
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.safetensors.file import SafetensorsFile
from lrc.parts.matrix import PackedMatrix
from lrc.parts.packed import matrix_record, matrix_tensors, read_matrix
from lrc.quant.table import quantize_table

TABLES_FILE = "shell.safetensors"

Tensors = dict[str, NDArray[Any]]


def store_table(
    source: Checkpoint, name: str, bits: int, role: str, codebook: str = TABLES, **how: Any
) -> tuple[PackedMatrix | NDArray[np.float32], Tensors, dict[str, dict[str, Any]]]:
    """Embedding or head as it will be read back, the tensors that store it, and its record.

    At 16 bits it is a plain float16 tensor, without a record. ``how`` is for
    :func:`lrc.quant.table.quantize_table`.

    Raises
    ------
    NumericalError
        It has a value that is not finite, or, at 16 bits, one that does not fit float16.
    """
    table = source.linear(name, check_finite=True)
    release_pages(source.shards.values())  # mapped pages count as memory, beside what was read
    if bits == 16:
        stored = as_float16(table, name)
        return stored.astype(np.float32), {name: stored}, {}
    packed, record = quantize_table(table, bits, codebook, **how)
    return (
        packed,
        matrix_tensors(name, packed),
        {name: {**matrix_record(packed), **record, "role": role, "file": TABLES_FILE}},
    )


def as_float16(values: NDArray[np.float32], name: str) -> NDArray[np.float16]:
    """What is stored of a table or a matrix that keeps 16 bits.

    Raises
    ------
    NumericalError
        It has a value that does not fit.
    """
    with np.errstate(over="ignore"):
        stored = values.astype(np.float16)
    if not np.isfinite(stored).all():
        raise NumericalError(f"{name} does not fit float16; store it at 8 bits")
    return stored


def read_table(
    file: Path, name: str, record: Mapping[str, Any] | None
) -> PackedMatrix | NDArray[np.float32]:
    """The table ``name`` that :func:`store_table` gave, from the file that an earlier run wrote.

    Raises
    ------
    FormatError
        The file is damaged.
    """
    with reading(file):
        stored = SafetensorsFile(file)
        return stored.float32(name) if record is None else read_matrix(stored, name, record)
