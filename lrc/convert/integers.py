"""Directories of packed integer weights: what the formats that have them share.

A format says what is stored of a matrix and what a reader is told; which matrices there are, and
all the rest of a Hugging Face directory, is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lrc.base.atomic import atomic_directory, check_output, json_bytes
from lrc.codebooks import GROUPED
from lrc.codebooks.grouped import GroupedIntegers
from lrc.convert.biases import config_with_biases
from lrc.convert.hf import to_float16, with_dtype
from lrc.convert.plain_codes import dense_codes, has_low_rank, plain_codes
from lrc.errors import FormatError
from lrc.formats.safetensors.sharded import write_weights
from lrc.formats.safetensors.writing import TensorSpec
from lrc.formats.side_files import copy_side_files
from lrc.formats.view import View, stored_shapes
from lrc.models.base import Model
from lrc.models.opened import open_model
from lrc.models.source import WeightSource
from lrc.models.tensors import Matrix
from lrc.models.views import first_views
from lrc_kernels.backend import get_kernels

#: Called with what is being done, units done and units in all.
Progress = Callable[[str, int, int], None]
_WEIGHT = ".weight"


@dataclass(frozen=True)
class Scheme:
    """How a matrix is stored: its sizes, bits a weight and weights of a group."""

    shape: tuple[int, int]
    bits: int
    group: int


@dataclass(frozen=True)
class Integers:
    """Codes u8 (m, n) and scales f16 (m, groups): a weight is scale (code - 2^bits / 2)."""

    scheme: Scheme
    codes: NDArray[np.uint8]
    scales: NDArray[np.float16]


class Form(Protocol):
    """A format."""

    #: As in :data:`lrc.convert.TARGETS`.
    name: str

    def check(self, schemes: Mapping[str, Scheme], dense: list[str]) -> None:
        """Refuse layers that the format cannot have, by name, and those that stay ``dense``."""
        ...

    def specs(self, scheme: Scheme) -> dict[str, TensorSpec]:
        """Dtypes and shapes of a layer's tensors, by what follows its name."""
        ...

    def tensor(self, kind: str, weight: Integers) -> NDArray[Any]:
        """One of them."""
        ...

    def settings(self, schemes: Mapping[str, Scheme]) -> dict[str, Any]:
        """What ``quantization_config`` says."""
        ...

    def files(self, settings: dict[str, Any]) -> dict[str, bytes]:
        """Further files by name."""
        ...


def export_integers(
    form: Form,
    packed_dir: Path | str,
    out_dir: Path | str,
    progress: Progress | None = None,
    *,
    note: Callable[[str], None] | None = None,
) -> Path:
    """Write a model whose matrices are codes in groups as a directory of packed integers.

    Parameters
    ----------
    form
        The format.
    packed_dir
        What ``lrc compress --for`` made.
    out_dir
        Made by this call; must not exist.
    progress
        Told after each tensor.
    note
        Told what is not written as it is stored: matrices of other codes, which become float16,
        and factors L R, which are left out.

    Raises
    ------
    FormatError
        The model cannot be read, or none of its matrices has such codes.
    SpecError
        The format cannot have what the model has.
    OutputError
        ``out_dir`` exists or cannot be written.
    """
    target = Path(out_dir)
    check_output(target)
    model, source = open_model(packed_dir)
    biased = config_with_biases(source.config, model.tensors)
    job = _Job.of(form, model)
    for line in (*model.notes, *job.notes()):
        if note is not None:
            note(line)
    settings = form.settings(job.schemes)
    done = 0

    def read(name: str) -> NDArray[Any]:
        nonlocal done
        values = job.read(name)
        done += 1
        if progress is not None:
            progress("exporting weights", done, len(job.specs))
        return values

    with atomic_directory(target) as work:
        copy_side_files(source.path, source.other_files(), work)
        config = {**with_dtype(biased), "quantization_config": settings}
        (work / "config.json").write_bytes(json_bytes(config))
        for name, content in form.files(settings).items():
            (work / name).write_bytes(content)
        write_weights(work, job.specs, read)
    return target


def integers_of(source: WeightSource, name: str) -> Integers | None:
    """Codes and scales of the tensor ``name``; None where it is something else."""
    codes = plain_codes(source.linear(name), GROUPED)
    if codes is None:
        return None
    assert isinstance(codes.coding, GroupedIntegers)
    blocks = codes.coding.groups(codes.planes)
    scheme = Scheme(codes.shape, codes.bits, codes.coding.blocks.block)
    return Integers(scheme, blocks.codes.reshape(codes.shape), blocks.d)


def packed_words(codes: NDArray[np.uint8], bits: int) -> NDArray[np.int32]:
    """Each row of codes u8 (rows, k) as one string of bits, lowest first, in whole int32.

    Examples
    --------
    >>> packed_words(np.array([[1, 2, 3]], np.uint8), 4)
    array([[801]], dtype=int32)
    """
    row = get_kernels().pack_bits(np.ascontiguousarray(codes), bits)
    row = np.pad(row, ((0, 0), (0, -row.shape[1] % 4)))
    return np.ascontiguousarray(row).view("<i4").astype(np.int32)


@dataclass(frozen=True)
class _Job:
    """What is written: specs by name, which layer has which tensor, and the rest by its views."""

    form: Form
    model: Model
    schemes: dict[str, Scheme]
    stored: dict[str, str]
    specs: dict[str, TensorSpec]
    views: dict[str, View]

    @classmethod
    def of(cls, form: Form, model: Model) -> _Job:
        source, views = model.source, first_views(model.tensors)
        schemes, stored, dense = {}, {}, []
        for name, tensor in model.tensors.read.items():
            if not isinstance(tensor.role, Matrix):
                continue
            found = integers_of(source, name) if views[name].is_whole else None
            layer = views[name].stored.removesuffix(_WEIGHT)
            if found is None:
                dense.append(name)
            else:
                schemes[layer], stored[layer] = found.scheme, name
        if not schemes:
            raise FormatError(
                f"no matrix of {source.path} has codes that {form.name} has; "
                f"lrc compress --for {form.name} makes them"
            )
        form.check(schemes, dense)
        specs = {
            f"{layer}.{kind}": spec
            for layer, scheme in schemes.items()
            for kind, spec in form.specs(scheme).items()
        }
        coded = set(stored.values())
        rest = {name: view for name, view in views.items() if name not in coded}
        specs |= {n: TensorSpec("F16", s) for n, s in stored_shapes(rest, source.shape).items()}
        return cls(form, model, schemes, stored, dict(sorted(specs.items())), rest)

    def read(self, name: str) -> NDArray[Any]:
        """The values of a tensor that is written."""
        layer, _, kind = name.rpartition(".")
        source = self.model.source
        if layer in self.stored:
            weight = integers_of(source, self.stored[layer])
            if weight is not None and kind in self.form.specs(weight.scheme):
                return self.form.tensor(kind, weight)
        values = np.empty(self.specs[name].shape, np.float16)
        for part, view in self.views.items():
            if view.stored == name:
                view.put(to_float16(dense_codes(source, part), part), values)
        return values

    def notes(self) -> list[str]:
        """What is not written as it is stored."""
        coded = set(self.stored.values())
        source, told = self.model.source, []
        matrices = [n for n, t in self.model.tensors.read.items() if isinstance(t.role, Matrix)]
        dense = [name for name in matrices if name not in coded]
        if dense:
            told.append(
                f"{len(dense)} matrices, {dense[0]} the first, have codes that {self.form.name} "
                "has no place for: written in float16"
            )
        factors = [name for name in matrices if has_low_rank(source.linear(name))]
        if factors:
            told.append(
                f"L and R of {len(factors)} matrices are left out: lrc export --to peft writes "
                "them as an adapter over this directory"
            )
        return told
