"""Embeddings and heads: scalar codes in groups of each row, no rotation, so rows decode alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import chunks
from lrc.codebooks import TABLES
from lrc.parts.codes import Codes, codes_record
from lrc.parts.matrix import PackedMatrix
from lrc.quant.ldlq import Grid, round_to_nearest
from lrc.quant.scalar import Uniform
from lrc.quant.scales import group_scales, spread

GROUP_SIZE = 64
_CHUNK_ROWS = 4096


def table_record(shape: tuple[int, int], bits: int) -> dict[str, Any]:
    """What :func:`quantize_table` makes of a table (vocab, n), as far as its layout needs it."""
    codes = codes_record(TABLES, bits, GROUP_SIZE, row_scales=True)
    return {"shape": list(shape), "rotation": "none", "parts": [codes]}


def quantize_table(table: NDArray[np.float32], bits: int) -> tuple[PackedMatrix, dict[str, Any]]:
    """Nearest uniform codes of a table (vocab, n), with its relative error for the report.

    Rows are worked on in chunks: the peak is a small multiple of one beside table and codes.
    """
    m, n = table.shape
    quantizer = Uniform(bits)
    gain = float(
        np.float32(np.sqrt(np.einsum("ij,ij->", table, table, dtype=np.float64) / (m * n)))
    )
    divisor = np.float32(gain if gain > 0 else 1.0)
    planes, scales = [], []
    lost = 0.0
    for part in chunks(m, _CHUNK_ROWS):
        rows = table[part] / divisor
        scale = group_scales(rows, quantizer, GROUP_SIZE)
        rounded = round_to_nearest(rows, Grid(quantizer, spread(scale, GROUP_SIZE, n)))
        error = rows - rounded.values
        lost += float(np.einsum("ij,ij->", error, error, dtype=np.float64))
        planes.append(quantizer.pack(rounded.codes)[0])
        scales.append(scale.astype(np.float16))
    codes = Codes(
        size=(m, n),
        codebook=quantizer.id,
        bits=bits,
        group_size=GROUP_SIZE,
        planes=(np.concatenate(planes),),
        scales=np.concatenate(scales),
    )
    packed = PackedMatrix(
        shape=(m, n), gain=gain, rotation="none", signs_in=None, signs_out=None, parts=(codes,)
    )
    relative = float(np.sqrt(lost / (m * n))) if gain > 0 else 0.0
    return packed, {
        "relative_error": relative,
        "weight_error": relative,
        "damping": 0.0,
        "notes": [],
        "trace": [],
    }
