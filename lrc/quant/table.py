"""Embeddings and heads: scalar codes whose rows decode alone.

A head multiplies the final hidden states x, so its rows are rounded with feedback in the metric
H = E[x x^T], as a linear layer's are; a tied embedding has the same codes. Rotated inputs even out
the values of a row, which then needs one scale; without rotation, groups of a row have theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import chunks
from lrc.codebooks import TABLES
from lrc.errors import SpecError
from lrc.linalg.incoherence import pack_signs, random_signs, rotate_columns
from lrc.linalg.norms import proxy_loss
from lrc.parts.codes import Codes, codes_record
from lrc.parts.matrix import PackedMatrix
from lrc.quant import quantizer as get_quantizer
from lrc.quant.blockwise import has_own_scales
from lrc.quant.ldlq import Grid, Rounded, ldlq, round_to_nearest
from lrc.quant.scalar import Uniform
from lrc.quant.scales import group_scales, spread
from lrc.spec import QuantSpec

#: Columns that share a scale where inputs are not rotated.
GROUP_SIZE = 64
_CHUNK_ROWS = 4096


@dataclass(frozen=True)
class TableMetric:
    """What weighs errors of a table's rows, in the basis where they are rounded.

    Attributes
    ----------
    H : (n, n) float32
        Second moment of what the table multiplies, not damped.
    feedback : (n, n) float32
        Of its damped factor, a column at a time; see :func:`lrc.quant.ldlq.ldlq`.
    damping : float
        Share of the diagonal that it was damped with.
    """

    H: NDArray[np.float32]
    feedback: NDArray[np.float32]
    damping: float


def table_record(shape: tuple[int, int], bits: int, rotation: str) -> dict[str, Any]:
    """What :func:`quantize_table` makes of a table (vocab, n), as far as its layout needs it."""
    is_rotated = rotation == "hadamard"
    codes = codes_record(TABLES, bits, 0 if is_rotated else GROUP_SIZE, row_scales=True)
    return {"shape": list(shape), "rotation": "inputs" if is_rotated else "none", "parts": [codes]}


def table_signs(n: int, rotation: str, seed: int) -> NDArray[np.float32] | None:
    """Signs (n,) of the inputs of a table, fixed by ``seed``; None where nothing is rotated."""
    return random_signs(n, seed) if rotation == "hadamard" else None


def quantize_table(
    table: NDArray[np.float32],
    bits: int,
    codebook: str = TABLES,
    *,
    rotation: str = "none",
    seed: int = 0,
    metric: TableMetric | None = None,
    threads: int = 1,
) -> tuple[PackedMatrix, dict[str, Any]]:
    """Codes of a table, with their relative errors for the report.

    They are uniform, or of a codebook whose blocks have scales of their own: then nothing is
    rotated, and every block is rounded on its own.

    Parameters
    ----------
    table : float32 array, shape (vocab, n)
    bits : int
    codebook : str
    rotation : str
        ``"hadamard"``: inputs are rotated, their signs fixed by ``seed``.
    metric : TableMetric, optional
        In that basis; without one every weight is rounded on its own.
    threads : int
        Never changes the codes.

    Notes
    -----
    Law: with a metric, that of :func:`lrc.quant.ldlq.ldlq`. Cost ten roundings, and 2 vocab n^2.
    Rows are worked on in chunks: the peak is a small multiple of one beside table and codes.
    """
    m, n = table.shape
    if codebook != TABLES:
        return _in_blocks(table, QuantSpec(codebook, bits))
    quantizer, signs = Uniform(bits), table_signs(n, rotation, seed)
    group = GROUP_SIZE if signs is None else 0
    gain = float(
        np.float32(np.sqrt(np.einsum("ij,ij->", table, table, dtype=np.float64) / (m * n)))
    )
    divisor = np.float32(gain if gain > 0 else 1.0)
    planes, scales = [], []
    errors = _Errors()
    for part in chunks(m, _CHUNK_ROWS):
        rows = np.ascontiguousarray(rotate_columns(table[part] / divisor, signs), np.float32)
        scale = group_scales(rows, quantizer, group)
        rounded = _rounded(rows, Grid(quantizer, spread(scale, group, n)), metric, threads)
        errors.add(rows, rows - rounded.values, metric)
        planes.append(quantizer.pack(rounded.codes)[0])
        scales.append(scale.astype(np.float16))
    codes = Codes(
        size=(m, n),
        codebook=quantizer.id,
        bits=bits,
        group_size=group,
        planes=(np.concatenate(planes),),
        scales=np.concatenate(scales),
    )
    packed = PackedMatrix(
        shape=(m, n),
        gain=gain,
        rotation="none" if signs is None else "inputs",
        signs_in=None if signs is None else pack_signs(signs),
        signs_out=None,
        parts=(codes,),
    )
    return packed, _report(errors, 0.0 if metric is None else metric.damping)


def _in_blocks(table: NDArray[np.float32], quant: QuantSpec) -> tuple[PackedMatrix, dict[str, Any]]:
    """The same of codes at the weights' own size, without a gain."""
    m, n = table.shape
    asked = quant.codebook
    quant, notes = quant.for_shape(m, n)
    coder = get_quantizer(quant.codebook, quant.bits)
    if not has_own_scales(coder):
        raise SpecError(
            f"a table's rows of {n} numbers are no whole blocks of {asked} or what stands for it; "
            "a model of such rows has no file of block types: leave --for away"
        )
    planes, errors = [], _Errors()
    for part in chunks(m, _CHUNK_ROWS):
        codes = coder.encode(table[part])
        errors.add(table[part], table[part] - coder.decode(codes), None)
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
    return packed, _report(errors, 0.0, notes)


def _report(errors: _Errors, damping: float, notes: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "relative_error": errors.weighed,
        "weight_error": errors.plain,
        "frobenius_error": errors.plain,
        "damping": damping,
        "notes": list(notes),
        "trace": [],
    }


def _rounded(
    rows: NDArray[np.float32], grid: Grid, metric: TableMetric | None, threads: int
) -> Rounded:
    if metric is None:
        return round_to_nearest(rows, grid)
    return ldlq(rows, metric.feedback, grid, threads=threads)


class _Errors:
    """Relative errors, in the metric and without it, summed over chunks of rows."""

    def __init__(self) -> None:
        self._sums = np.zeros((2, 2))

    def add(
        self, rows: NDArray[np.float32], error: NDArray[np.float32], metric: TableMetric | None
    ) -> None:
        """Add a chunk and its error."""
        for i, values in enumerate((error, rows)):
            square = float(np.einsum("ij,ij->", values, values, dtype=np.float64))
            self._sums[i] += square, square if metric is None else proxy_loss(values, metric.H)

    @property
    def plain(self) -> float:
        """||W - Q|| / ||W||."""
        return self._relative(0)

    @property
    def weighed(self) -> float:
        """The same in the metric's norm."""
        return self._relative(1)

    def _relative(self, which: int) -> float:
        lost, whole = self._sums[:, which]
        return float(np.sqrt(max(lost, 0.0) / whole)) if whole > 0 else 0.0
