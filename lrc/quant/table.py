"""Embeddings and heads: scalar codes in groups of each row, no rotation, so rows decode alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import chunks
from lrc.codebooks import TABLES
from lrc.parts.codes import Codes, codes_record
from lrc.parts.matrix import PackedMatrix
from lrc.quant import quantizer as get_quantizer
from lrc.quant.blockwise import has_own_scales
from lrc.quant.ldlq import Grid, round_to_nearest
from lrc.quant.scalar import Uniform
from lrc.quant.scales import group_scales, spread
from lrc.spec import QuantSpec

GROUP_SIZE = 64
_CHUNK_ROWS = 4096


def table_record(shape: tuple[int, int], bits: int) -> dict[str, Any]:
    """What :func:`quantize_table` makes of a table (vocab, n), as far as its layout needs it."""
    codes = codes_record(TABLES, bits, GROUP_SIZE, row_scales=True)
    return {"shape": list(shape), "rotation": "none", "parts": [codes]}


def quantize_table(
    table: NDArray[np.float32], bits: int, codebook: str = TABLES
) -> tuple[PackedMatrix, dict[str, Any]]:
    """Nearest codes of a table (vocab, n), with its relative error for the report.

    Codes are uniform in groups, or of a codebook whose blocks have scales of their own. Rows are
    worked on in chunks: the peak is a small multiple of one beside table and codes.
    """
    m, n = table.shape
    if codebook != TABLES:
        return _in_blocks(table, QuantSpec(codebook, bits))
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
    return packed, _report(relative)


def _in_blocks(table: NDArray[np.float32], quant: QuantSpec) -> tuple[PackedMatrix, dict[str, Any]]:
    """The same of codes at the weights' own size, without a gain."""
    m, n = table.shape
    quant, notes = quant.for_shape(m, n)
    coder = get_quantizer(quant.codebook, quant.bits)
    assert has_own_scales(coder)
    planes, lost = [], 0.0
    for part in chunks(m, _CHUNK_ROWS):
        codes = coder.encode(table[part])
        error = table[part] - coder.decode(codes)
        lost += float(np.einsum("ij,ij->", error, error, dtype=np.float64))
        planes.append(coder.pack(codes)[0])
    stored = Codes(
        size=(m, n),
        codebook=quant.codebook,
        bits=quant.bits,
        group_size=0,
        planes=(np.concatenate(planes),),
        scales=np.ones((1, 1), np.float16),
    )
    packed = PackedMatrix((m, n), 1.0, "none", None, None, (stored,))
    energy = float(np.einsum("ij,ij->", table, table, dtype=np.float64))
    return packed, _report(float(np.sqrt(lost / energy)) if energy > 0 else 0.0, notes)


def _report(relative: float, notes: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "relative_error": relative,
        "weight_error": relative,
        "damping": 0.0,
        "notes": list(notes),
        "trace": [],
    }
