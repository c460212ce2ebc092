"""Bytes of a compressed model before it exists, from shapes and parameters alone."""

from __future__ import annotations

import math

from lrc.errors import SpecError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.safetensors.file import TensorSpec, file_size
from lrc.measure.storage import is_block_linear
from lrc.parts.layout import Specs, matrix_layout, stored_bytes
from lrc.parts.matrix import NO_CODEBOOK
from lrc.parts.packed import BLOCKS, FORMAT
from lrc.quant.table import GROUP_SIZE
from lrc.quant.tables import EMBEDDING, HEAD
from lrc.spec import CompressSpec, DecomposeSpec, LowRankSpec

_FINAL_NORM = "model.norm.weight"


def matrix_specs(name: str, shape: tuple[int, ...], spec: DecomposeSpec) -> Specs:
    """Dtypes and shapes of the tensors that store the matrix ``name`` of ``shape`` (m, n).

    Where the solver finds that the low-rank part asked for does not help, it stores less.

    Raises
    ------
    SpecError
        If the rank is automatic: then only the solver knows.
    """
    quant, rotated = spec.quant.fitted(shape[0])[0], spec.rotation == "hadamard"
    has_q, has_factors = spec.recipe != "low-rank", spec.recipe in ("caldera", "low-rank")
    return matrix_layout(
        name,
        (shape[0], shape[1]),
        codebook=quant.codebook if has_q else NO_CODEBOOK,
        bits=quant.bits if has_q else 0,
        group_size=quant.group_size,
        rotated=rotated,
        rank=_rank(name, shape, spec.low_rank) if has_factors else 0,
        factor_bits=spec.low_rank.factor_bits,
        scale_rows=1 if rotated and not quant.group_size else shape[0],
    )


def _rank(name: str, shape: tuple[int, ...], low_rank: LowRankSpec) -> int:
    if not isinstance(low_rank.rank, int):
        raise SpecError(f"the size of {name} is unknown while its rank is {low_rank.rank!r}")
    return min(low_rank.rank, *shape)


def table_specs(name: str, shape: tuple[int, ...], bits: int) -> Specs:
    """The same for an embedding or a head of ``shape`` (vocab, n) at 4 to 8, or 16 bits."""
    if bits == 16:
        return {name: TensorSpec("F16", shape)}
    m, n = shape
    return {
        f"{name}.codes.0": TensorSpec("U8", (m, -(-n * bits // 8))),
        f"{name}.scales": TensorSpec("F16", (m, -(-n // GROUP_SIZE))),
        f"{name}.gain": TensorSpec("F32", (1,)),
    }


def weight_file_bytes(source: Checkpoint, spec: CompressSpec) -> int:
    """Bytes of all weight files that compressing ``source`` with ``spec`` writes.

    Exact, headers included: it equals ``file_bytes`` of ``lrc inspect``.

    Raises
    ------
    SpecError
        If a rank is automatic.
    """
    embed_bits, head_bits = spec.table_bits()
    shell = table_specs(EMBEDDING, source.shape(EMBEDDING), embed_bits)
    if not source.config.get("tie_word_embeddings", False):
        shell |= table_specs(HEAD, source.shape(HEAD), head_bits)
    shell[_FINAL_NORM] = TensorSpec("F32", source.shape(_FINAL_NORM))
    blocks: dict[str, Specs] = {}
    for name in source.names():
        if not name.startswith(BLOCKS):
            continue
        block = blocks.setdefault(name.removeprefix(BLOCKS).split(".")[0], {})
        shape = source.shape(name)
        if is_block_linear(name, shape):
            block |= matrix_specs(name, shape, spec.for_matrix(name.removesuffix(".weight")))
        elif len(shape) == 1:
            block[name] = TensorSpec("F32", shape)
    return sum(file_size(specs, {"format": FORMAT}) for specs in (shell, *blocks.values()))


def linear_bytes(source: Checkpoint, spec: CompressSpec) -> int:
    """Stored bytes of the linear layers of all blocks, what ``bits_per_weight_linear`` counts."""
    return sum(
        stored_bytes(matrix_specs(name, shape, spec.for_matrix(name.removesuffix(".weight"))))
        for name, shape in linear_layers(source).items()
    )


def linear_layers(source: Checkpoint) -> dict[str, tuple[int, int]]:
    """Shape (m, n) of every linear layer of the blocks by tensor name, sorted."""
    shapes = {name: source.shape(name) for name in source.names()}
    return {
        name: (shape[0], shape[1]) for name, shape in shapes.items() if is_block_linear(name, shape)
    }


def weights_of(source: Checkpoint) -> int:
    """Weights in the linear layers of all blocks."""
    return sum(math.prod(shape) for shape in linear_layers(source).values())
