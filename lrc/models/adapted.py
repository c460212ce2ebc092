"""Low-rank adapters over a model that stays as it is: y = W x + s B (A x) (Hu et al., 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from lrc.errors import FormatError, SpecError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.view import View
from lrc.models import load_model
from lrc.models.base import Model
from lrc.models.opened import open_model
from lrc.models.source import Array, WeightSource
from lrc.parts.packed import PackedCheckpoint


@dataclass(frozen=True)
class Delta:
    """What is added to one matrix (m, n): up^T down.

    Attributes
    ----------
    down, up : (r, n) and (r, m) float32
        A, and the transpose of B with all scales.
    """

    down: Array
    up: Array

    def scaled(self, scale: float) -> Delta:
        """The same times a number.

        Raises
        ------
        SpecError
            It is too large for float32 then.
        """
        made = Delta(self.down, _times(self.up, scale))
        if not np.isfinite(made.up).all():
            raise SpecError(f"an adapter times {scale:g} is not finite; give a smaller scale")
        return made


class Adapter(Protocol):
    """A file, or a directory, of deltas."""

    @property
    def path(self) -> Path:
        """Where it lies; named in errors."""
        ...

    def deltas(self, model: Model) -> Mapping[str, Delta]:
        """What it adds to the matrices of a model, by the name of the tensor.

        Raises
        ------
        FormatError
            It is malformed, or of another model.
        UnsupportedModelError
            It does what is not computed here.
        """
        ...


class AdaptedSource:
    """The weights of a model with those of adapters added, as they are read.

    A dense matrix is summed up; a packed one gets factors, which engines apply beside its codes.

    Parameters
    ----------
    base : WeightSource
        As a model reads it.
    added : mapping
        Deltas of each matrix, by the name of its tensor.
    notes : sequence of str
        What a user should know of the model beneath, and of its adapters.
    """

    is_as_read = True

    def __init__(
        self, base: WeightSource, added: Mapping[str, Sequence[Delta]], notes: Sequence[str]
    ) -> None:
        self._base, self._added = base, added
        self.notes = tuple(notes)

    @property
    def path(self) -> Path:
        """That of the model beneath."""
        return self._base.path

    @property
    def config(self) -> dict[str, Any]:
        """Likewise."""
        return self._base.config

    def reading(self, views: Mapping[str, View]) -> AdaptedSource:
        """Refused: names are those that a model reads."""
        raise TypeError("a model with adapters has no other layout than its own")

    def names(self) -> tuple[str, ...]:
        """Names of all that is stored beneath."""
        return self._base.names()

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the tensor ``name``."""
        return self._base.shape(name)

    def has(self, name: str) -> bool:
        """Whether the tensor ``name`` is stored."""
        return self._base.has(name)

    def dense(self, name: str) -> Array:
        """The tensor ``name`` as float32, adapters included."""
        found = self._base.dense(name)
        for delta in self._added.get(name, ()):
            found = found + delta.up.T @ delta.down
        return found

    def linear(self, name: str) -> Any:
        """The matrix ``name``, packed where it is stored packed, adapters included."""
        if name not in self._added:
            return self._base.linear(name)
        matrix = self._base.linear(name)
        if isinstance(matrix, np.ndarray):
            return self.dense(name)
        from lrc.parts.added_factors import with_low_rank

        deltas = self._added[name]
        down, up = (np.concatenate([getattr(d, side) for d in deltas]) for side in ("down", "up"))
        return with_low_rank(matrix, down, up)


def open_adapted(
    path: str | Path, adapters: Sequence[tuple[Adapter, float]]
) -> tuple[Model, Checkpoint | PackedCheckpoint]:
    """The model in a directory with adapters, each times a scale, and the files beneath.

    Raises
    ------
    FormatError, UnsupportedModelError
        As `open_model`, or of an adapter.
    """
    model, source = open_model(path)
    added: dict[str, list[Delta]] = {}
    notes = list(model.notes)
    for adapter, scale in adapters:
        deltas = adapter.deltas(model)
        for name, delta in deltas.items():
            added.setdefault(name, []).append(delta.scaled(scale))
        ranks = sorted({len(delta.down) for delta in deltas.values()})
        notes.append(
            f"adapter {adapter.path}, times {scale:g}: rank {ranks[0]}"
            + (f" to {ranks[-1]}" if len(ranks) > 1 else "")
            + f" beside {len(deltas)} of {len(model.tensors.matrices)} matrices"
        )
    return load_model(AdaptedSource(model.source, added, notes)), source


def checked_delta(
    where: str, down: Array, up: Array, shape: tuple[int, ...], scale: float
) -> Delta:
    """A delta from A (r, n) and B (m, r), which have to fit a matrix of this ``shape`` (m, n).

    Raises
    ------
    FormatError
        They do not, or have a number that is not finite.
    """
    m, n = shape
    fits = down.ndim == up.ndim == 2 and down.shape[0] == up.shape[1] > 0
    if not fits or (up.shape[0], down.shape[1]) != (m, n):
        raise FormatError(
            f"{where}: A has shape {down.shape} and B {up.shape}; a matrix of {m} x {n} needs "
            f"(r, {n}) and ({m}, r): is the adapter of another model?"
        )
    found = Delta(np.ascontiguousarray(down), _times(up.T, scale))
    if not (np.isfinite(down).all() and np.isfinite(found.up).all()):
        raise FormatError(
            f"{where} has numbers that are not finite, or not times {scale:g}; fetch the adapter "
            "again"
        )
    return found


def _times(values: Array, scale: float) -> Array:
    """Values times a number, in C order; infinite, without a warning, where they are too large."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(values * np.float32(scale))
