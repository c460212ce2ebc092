"""Bytes of a compressed model before it exists, from shapes and parameters alone."""

from __future__ import annotations

import math
from typing import Any

from lrc.codebooks import TABLES
from lrc.errors import SpecError
from lrc.formats.safetensors.writing import TensorSpec, file_size
from lrc.models.tensors import EMBEDDING, HEAD, Tensors, bias_of, linear_of, weight_of
from lrc.parts.base import Specs
from lrc.parts.codes import codes_record
from lrc.parts.layout import matrix_layout, stored_bytes
from lrc.parts.low_rank import low_rank_record
from lrc.parts.packed import FORMAT
from lrc.quant.table import table_record
from lrc.solvers.qstep import has_row_scales
from lrc.spec import CompressSpec, DecomposeSpec, LowRankSpec, QuantSpec


def matrix_specs(name: str, shape: tuple[int, ...], spec: DecomposeSpec) -> Specs:
    """Dtypes and shapes of the tensors that store the matrix ``name`` of ``shape`` (m, n).

    Where the solver finds that the low-rank part asked for does not help, it stores less.

    Raises
    ------
    SpecError
        If the rank is automatic: then only the solver knows.
    """
    if spec.stays_dense:
        return {name: TensorSpec("F16", shape)}
    return matrix_layout(name, _planned(name, shape, spec))


def _planned(name: str, shape: tuple[int, ...], spec: DecomposeSpec) -> dict[str, Any]:
    """The record of what a recipe makes of a matrix, as far as its layout needs it."""
    quant, parts = spec.quant.for_shape(*shape)[0], []
    if spec.recipe != "low-rank":
        by_row = has_row_scales(spec)
        parts.append(codes_record(quant.codebook, quant.bits, quant.group_size, row_scales=by_row))
    if spec.recipe not in ("ldlq", "round-to-nearest") and (
        rank := _rank(name, shape, spec.low_rank)
    ):
        parts.append(low_rank_record(rank, spec.low_rank.factor_bits))
    return {"shape": list(shape), "rotation": spec.rotation, "parts": parts}


def _rank(name: str, shape: tuple[int, ...], low_rank: LowRankSpec) -> int:
    rank = low_rank.rank_of(shape)
    if isinstance(rank, str):
        raise SpecError(f"the size of {name} is unknown while its rank is {rank!r}")
    return rank


def table_specs(
    name: str, shape: tuple[int, ...], bits: int, rotation: str, codebook: str = TABLES
) -> Specs:
    """The same for an embedding or a head of ``shape`` (vocab, n) at 4 to 8, or 16 bits.

    ``rotation`` is that of the spec; a codebook of another kind rounds in blocks, unrotated.
    """
    if bits == 16:
        return {name: TensorSpec("F16", shape)}
    if codebook != TABLES:
        quant = QuantSpec(codebook, bits).for_shape(shape[0], shape[1])[0]
        codes = codes_record(quant.codebook, quant.bits, 0, row_scales=False)
        return matrix_layout(name, {"shape": list(shape), "rotation": "none", "parts": [codes]})
    return matrix_layout(name, table_record((shape[0], shape[1]), bits, rotation))


def weight_file_bytes(tensors: Tensors, spec: CompressSpec) -> int:
    """Bytes of all weight files that compressing a model of these tensors with ``spec`` writes.

    Exact, headers included: it equals ``file_bytes`` of ``lrc inspect``.

    Raises
    ------
    SpecError
        If a rank is automatic.
    """
    around = _plain_specs(tensors, None)
    books = (spec.embed_codebook, spec.head_codebook)
    for role, bits, book in zip((EMBEDDING, HEAD), spec.table_bits(), books, strict=True):
        if role in tensors.tables:
            name = tensors.tables[role]
            around |= table_specs(name, tensors.shape(name), bits, spec.decompose.rotation, book)
    files = [around]
    for block in range(tensors.blocks):
        specs = _plain_specs(tensors, block)
        for name in tensors.linears(block).values():
            own, shape = spec.for_matrix(linear_of(name)), tensors.shape(name)
            specs |= matrix_specs(name, shape, own)
            if spec.bias and not own.stays_dense:
                specs[bias_of(linear_of(name))] = TensorSpec("F32", shape[:1])
        files.append(specs)
    return sum(file_size(specs, {"format": FORMAT}) for specs in files)


def _plain_specs(tensors: Tensors, block: int | None) -> Specs:
    """What is not compressed, of a block or outside all of them."""
    names = tensors.plain(block).values()
    return {name: TensorSpec("F32", tensors.shape(name)) for name in names}


def linear_bytes(tensors: Tensors, spec: CompressSpec) -> int:
    """Stored bytes of the linear layers of all blocks, what ``bits_per_weight_linear`` counts."""
    return sum(
        stored_bytes(matrix_specs(weight_of(name), shape, spec.for_matrix(name)))
        for name, shape in linear_shapes(tensors).items()
    )


def linear_shapes(tensors: Tensors) -> dict[str, tuple[int, int]]:
    """Shape (m, n) of every linear layer of the blocks, by name."""
    shapes = {name: tensors.shape(weight_of(name)) for name in tensors.matrices}
    return {name: (shape[0], shape[1]) for name, shape in shapes.items()}


def weights_of(tensors: Tensors) -> int:
    """Weights in the linear layers of all blocks."""
    return sum(math.prod(shape) for shape in linear_shapes(tensors).values())
