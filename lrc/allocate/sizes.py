"""Bytes of a compressed model before it exists, from shapes and parameters alone."""

from __future__ import annotations

import math

from lrc.errors import SpecError
from lrc.formats.checkpoint import Checkpoint
from lrc.formats.codec import plane_layout
from lrc.formats.packed import BLOCKS, FORMAT
from lrc.formats.safetensors_file import TensorSpec, file_size
from lrc.quant.table import GROUP_SIZE
from lrc.shell import EMBEDDING, HEAD
from lrc.spec import TRELLISES, CompressSpec, DecomposeSpec, LowRankSpec, QuantSpec
from lrc.storage import is_block_linear

Specs = dict[str, TensorSpec]
_FINAL_NORM = "model.norm.weight"


def fitting_quant(quant: QuantSpec, rows: int) -> QuantSpec:
    """``quant``, or the lattice of its bits where a trellis does not fit ``rows``."""
    if quant.codebook in TRELLISES and rows % 16:
        return QuantSpec.lattice(quant.bits)
    return quant


def matrix_specs(name: str, shape: tuple[int, ...], spec: DecomposeSpec) -> Specs:
    """Dtypes and shapes of the tensors that store the matrix ``name`` of ``shape`` (m, n).

    Where the solver finds that the low-rank part asked for does not help, it stores less.

    Raises
    ------
    SpecError
        If the rank is automatic: then only the solver knows.
    """
    m, n = shape
    quant, rotated = fitting_quant(spec.quant, m), spec.rotation == "hadamard"
    layout = plane_layout(quant.codebook, quant.bits, m, n) if spec.recipe != "low-rank" else ()
    specs = {
        f"{name}.codes.{i}": TensorSpec("U16" if dtype.itemsize == 2 else "U8", plane)
        for i, (dtype, plane) in enumerate(layout)
    }
    if layout:
        whole = rotated and not quant.group_size
        groups = -(-n // quant.group_size) if quant.group_size else 1
        specs[f"{name}.scales"] = TensorSpec("F16", (1 if whole else m, groups))
    specs[f"{name}.gain"] = TensorSpec("F32", (1,))
    if rotated:
        specs[f"{name}.signs_in"] = TensorSpec("U8", (-(-n // 8),))
        specs[f"{name}.signs_out"] = TensorSpec("U8", (-(-m // 8),))
    if spec.recipe in ("caldera", "low-rank"):
        specs |= _factor_specs(name, (m, n), spec.low_rank)
    return specs


def _factor_specs(name: str, shape: tuple[int, int], low_rank: LowRankSpec) -> Specs:
    if not isinstance(low_rank.rank, int):
        raise SpecError(f"the size of {name} is unknown while its rank is {low_rank.rank!r}")
    rank, bits, specs = min(low_rank.rank, *shape), low_rank.factor_bits, {}
    for side, length in zip(("left", "right"), shape, strict=True):
        if rank and bits == 16:
            specs[f"{name}.{side}"] = TensorSpec("F16", (rank, length))
            specs[f"{name}.{side}_scales"] = TensorSpec("F16", (0,))
        elif rank:
            specs[f"{name}.{side}"] = TensorSpec("U8", (rank, -(-length * bits // 8)))
            specs[f"{name}.{side}_scales"] = TensorSpec("F16", (rank,))
    return specs


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


def stored_bytes(specs: Specs) -> int:
    """Bytes of tensors, headers not counted."""
    return sum(spec.nbytes for spec in specs.values())


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
