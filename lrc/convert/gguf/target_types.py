"""Parameters of a compression whose result is to become a GGUF file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from lrc.codebooks import CODEBOOKS, GGUF, GGUF_TABLES, at_width
from lrc.convert.gguf.file import gguf_package
from lrc.convert.gguf.parts import read_parts
from lrc.convert.gguf.written import GgufModel
from lrc.convert.gguf.written_tokenizer import tokenizer_fields
from lrc.errors import FormatError, SpecError
from lrc.formats.hub import local_gguf
from lrc.models.base import Model
from lrc.models.opened import open_original
from lrc.models.tensors import EMBEDDING, HEAD, weight_of
from lrc.recipes.ggml_types import is_type, type_of
from lrc.spec import CompressSpec, LowRankSpec, MatrixSpec, QuantSpec

#: Types of files for tables that are not coded.
_HALF = ("F16", "BF16", "F32")


def for_gguf(
    model_dir: Path | str, spec: CompressSpec, kind: str | None = None, *, rank: bool = False
) -> CompressSpec:
    """``spec`` with grids that GGUF has, no rotation, and what the export cannot do refused now.

    Parameters
    ----------
    model_dir
        The dense model.
    spec
        Its codebook stays where GGUF has it, its bits where it has those.
    kind
        A type or a mix of llama.cpp, or the path of a GGUF file of the same model, whose types are
        taken tensor by tensor. None: one for all matrices, by the spec's bits.
    rank
        Whether a rank was asked for; else L R is left out, for it would need an adapter.

    Raises
    ------
    SpecError
        The type is unknown, or a file has types that are not coded here.
    UnsupportedModelError
        The family or its tokenizer has no rules for GGUF.
    """
    model, checkpoint = open_original(model_dir)
    rules = GgufModel.of(model, gguf_package())
    tokenizer_fields(checkpoint.path, model.vocab_size)
    solve = spec.decompose
    own = CODEBOOKS[solve.quant.codebook].family == CODEBOOKS[GGUF].family
    quant = solve.quant if own else _of_width(solve.quant.bits)
    low_rank = solve.low_rank if rank else LowRankSpec(rank=0)
    solve = dataclasses.replace(solve, quant=quant, low_rank=low_rank, rotation="none")
    spec = dataclasses.replace(
        spec, decompose=solve, embed_codebook=GGUF_TABLES, head_codebook=GGUF_TABLES
    )
    if kind is None:
        return spec
    if is_type(kind):
        kinds = _by_rule(model, rules, kind)
    else:
        kinds, spec = _of_file(model, rules, local_gguf(kind), spec)
    matrices = {
        name: MatrixSpec(kinds[name], low_rank, reason=f"type {kind}") for name in kinds
    } | spec.matrices
    return dataclasses.replace(spec, matrices=matrices)


def _of_width(bits: int) -> QuantSpec:
    """The first grid of a width.

    Raises
    ------
    SpecError
        There is none.
    """
    name = at_width(GGUF, bits)
    if CODEBOOKS[name].family != CODEBOOKS[GGUF].family:
        raise SpecError(f"--for gguf has no grid of {bits} bits; use 2 to 6, or 8")
    return QuantSpec(name, bits)


def _by_rule(model: Model, rules: GgufModel, kind: str) -> dict[str, QuantSpec]:
    tensors = model.tensors
    return {
        linear: type_of(kind, rules.names[weight_of(linear)].split(".")[-2], of.block,
                        tensors.blocks)
        for linear, of in tensors.matrices.items()
    }  # fmt: skip


def _of_file(
    model: Model, rules: GgufModel, path: Path, spec: CompressSpec
) -> tuple[dict[str, QuantSpec], CompressSpec]:
    """Types of the tensors of a file, and of its tables."""
    if not path.is_file():
        raise SpecError(f"type {str(path)!r} is neither a type of llama.cpp nor a GGUF file")
    _, tensors = read_parts(path, gguf_package())
    found = {name: tensor.tensor_type.name for name, tensor in tensors.items()}

    def coded(name: str) -> QuantSpec | None:
        kind = found.get(rules.names[name])
        if kind is None:
            raise FormatError(f"{path} has no tensor {rules.names[name]}: it is of another model")
        row = CODEBOOKS.get(kind.lower())
        if row is None and kind not in _HALF:
            raise SpecError(f"{path}: {rules.names[name]} has type {kind}, which is not coded here")
        return None if row is None else QuantSpec(kind.lower(), row.bits[0])

    kinds = {}
    for linear in model.tensors.matrices:
        quant = coded(weight_of(linear))
        if quant is None:
            raise SpecError(f"{path}: {linear} is not quantized there; give a type instead")
        kinds[linear] = quant
    tables = model.tensors.tables
    for role, what in ((EMBEDDING, "embed"), (HEAD, "head")):
        if role in tables:
            quant = coded(tables[role])
            spec = dataclasses.replace(
                spec,
                **(
                    {f"{what}_bits": 16}
                    if quant is None
                    else {f"{what}_bits": "auto", f"{what}_codebook": quant.codebook}
                ),
            )
    return kinds, spec
