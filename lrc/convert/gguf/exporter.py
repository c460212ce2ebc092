"""A model as a GGUF file, and its low-rank factors as an adapter beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.base.atomic import check_output
from lrc.codebooks import GGUF
from lrc.convert.biases import config_with_biases
from lrc.convert.gguf.adapter import Factors, write_adapter
from lrc.convert.gguf.file import StoredTensor, gguf_package, write_gguf
from lrc.convert.gguf.written import GgufModel
from lrc.convert.gguf.written_tokenizer import tokenizer_fields
from lrc.convert.hf import to_float16
from lrc.convert.plain_codes import plain_codes
from lrc.models.base import Model
from lrc.models.opened import open_model
from lrc.models.tensors import Plain
from lrc.parts.codes import Codes
from lrc.parts.low_rank import LowRank
from lrc.parts.matrix import PackedMatrix

#: Called with what is being done, units done and units in all.
Progress = Callable[[str, int, int], None]
_F32, _F16 = "F32", "F16"


def adapter_path(path: Path) -> Path:
    """Where the adapter of a model's file lies.

    Examples
    --------
    >>> adapter_path(Path("m.gguf")).name
    'm-lora.gguf'
    """
    return path.with_name(f"{path.stem}-lora.gguf")


def export_gguf(
    model_dir: Path | str,
    out_file: Path | str,
    progress: Progress | None = None,
    *,
    note: Callable[[str], None] | None = None,
) -> Path:
    """Write a model for llama.cpp and what is built on it.

    A matrix that was compressed for GGUF is written as it is: what the file decodes to is what the
    model here computes with, bit for bit. Its L and R, if it has any, go to an adapter beside the
    file, :func:`adapter_path`, in float16 where they have 16 bits, else in float32. Everything
    else is decoded and written in float16, and a note says so; norms and biases in float32.

    Parameters
    ----------
    model_dir
        A compressed directory, or a dense one.
    out_file
        Made by this call; must not exist.
    progress
        Told after each tensor.
    note
        Told what is not written as it is stored.

    Returns
    -------
    Path
        ``out_file``.

    Raises
    ------
    FormatError
        The model cannot be read, or a weight does not fit into float16.
    UnsupportedModelError
        The family, its configuration or its tokenizer has no rules for GGUF here.
    OutputError
        A file exists or cannot be written.
    LrcError
        The package ``gguf`` is missing.
    """
    target = Path(out_file)
    check_output(target)
    model, source = open_model(model_dir)
    config_with_biases(source.config, model.tensors)  # else readers would leave tensors out
    gguf = gguf_package()
    rules = GgufModel.of(model, gguf)
    job = _Job(model, rules, gguf)
    fields = _fields(job, source.path)
    factors = list(job.factors())
    if factors:
        check_output(adapter_path(target))
    for line in (*model.notes, *job.notes(), *rules.notes):
        if note is not None:
            note(line)
    tensors = list(job.stored())

    def tell(done: int) -> None:
        if progress is not None:
            progress("writing weights", done, len(tensors))

    write_gguf(target, rules.written.architecture, fields, tensors, tell)
    if factors:
        try:
            path = write_adapter(adapter_path(target), rules.written.architecture, factors)
        except BaseException:
            target.unlink()
            raise
        if note is not None:
            note(f"L and R of {len(factors)} matrices are in {path}: give it with --lora")
    return target


@dataclass(frozen=True)
class _Job:
    """What is written of a model, tensor by tensor."""

    model: Model
    rules: GgufModel
    gguf: ModuleType

    def stored(self) -> Iterator[StoredTensor]:
        """Every tensor of the file."""
        for name, values in self.rules.factors.items():
            yield StoredTensor(name, _F32, values.shape, values.dtype, lambda v=values: v)  # type: ignore[misc]
        for name, tensor in self.model.tensors.read.items():
            if isinstance(tensor.role, Plain):
                yield self._plain(name)
            else:
                yield self._matrix(name)

    def _plain(self, name: str) -> StoredTensor:
        source, rules = self.model.source, self.rules

        def read() -> NDArray[np.float32]:
            return rules.plain(name, source.dense(name))

        kind, dtype = np.dtype(np.float32), source.shape(name)
        return StoredTensor(rules.names[name], _F32, dtype, kind, read)

    def _matrix(self, name: str) -> StoredTensor:
        """The bytes of blocks, or what is decoded, in the order of the file's rows."""
        order, place = self.rules.order(name), self.rules.names[name]
        codes = self.codes(name)
        if codes is None:
            return StoredTensor(
                place, _F16, self.model.source.shape(name), np.dtype(np.float16),
                lambda: _ordered(to_float16(self.model.source.dense(name), name), order),
            )  # fmt: skip
        (plane,) = codes.planes
        return StoredTensor(
            place, codes.codebook.upper(), plane.shape, plane.dtype, lambda: _ordered(plane, order)
        )

    def codes(self, name: str) -> Codes | None:
        """Codes that GGUF has a type for, of the matrix or table ``name``."""
        return plain_codes(self.model.source.linear(name), GGUF)

    def factors(self) -> Iterator[Factors]:
        """L and R of matrices whose codes are written as they are."""
        for name in self.rules.names:
            matrix = self.model.source.linear(name) if self._is_matrix(name) else None
            if not isinstance(matrix, PackedMatrix) or self.codes(name) is None:
                continue
            for part in matrix.parts:
                if isinstance(part, LowRank):
                    left, right = part.factored()
                    kind = np.float16 if part.left.bits == 16 else np.float32
                    rows = _ordered(left, self.rules.order(name))
                    yield Factors(self.rules.names[name], rows.astype(kind), right.astype(kind))

    def notes(self) -> list[str]:
        """What is decoded to float16."""
        dense = [
            name
            for name in self.rules.names
            if self._is_matrix(name) and self.codes(name) is None
        ]  # fmt: skip
        if not dense:
            return []
        return [
            f"{len(dense)} matrices, {dense[0]} the first, have codes that GGUF has no type for: "
            "written in float16; lrc compress --for gguf makes those that it has"
        ]

    def _is_matrix(self, name: str) -> bool:
        return not isinstance(self.model.tensors.read[name].role, Plain)


def _ordered(rows: NDArray[Any], order: NDArray[np.intp] | None) -> NDArray[Any]:
    return rows if order is None else rows[order]


def _fields(job: _Job, folder: Path) -> dict[str, Any]:
    """Keys and values of the file."""
    gguf, config = job.gguf, job.model.source.config
    name = config.get("_name_or_path")
    size = job.model.vocab_size
    return {
        "general.type": "model",
        **({"general.name": name} if isinstance(name, str) and name else {}),
        "general.quantized_by": "lrc-llm",
        "general.quantization_version": int(gguf.GGML_QUANT_VERSION),
        "general.file_type": _file_type(job),
        **job.rules.settings,
        **tokenizer_fields(folder, size),
    }


def _file_type(job: _Job) -> int:
    """The type that most weights have, as llama.cpp counts types of files."""
    weights: dict[str, int] = {}
    for name in job.model.tensors.matrices:
        codes = job.codes(f"{name}.weight")
        kind = _F16 if codes is None else codes.codebook.upper()
        shape = job.model.source.shape(f"{name}.weight")
        weights[kind] = weights.get(kind, 0) + int(np.prod(shape))
    most = max(weights, key=lambda kind: weights[kind])
    known = job.gguf.LlamaFileType.__members__
    for found in (f"MOSTLY_{most}", f"MOSTLY_{most}_S", "GUESSED"):
        if found in known:
            return int(known[found])
    return 0
