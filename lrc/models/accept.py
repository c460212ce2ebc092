"""Whether a checkpoint is the model that its configuration describes, from the headers alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lrc.errors import FormatError, UnsupportedModelError
from lrc.formats.safetensors.checkpoint import Checkpoint
from lrc.formats.view import View
from lrc.models.source import WeightSource
from lrc.models.tensors import Ignored, Tensors
from lrc.models.views import found_views

#: Names that one message gives.
_NAMED = 3


@dataclass(frozen=True)
class Accepted:
    """A source whose names are those that the model reads, and what a user should know of it."""

    source: WeightSource
    notes: tuple[str, ...]


def accept(source: WeightSource, tensors: Tensors, family: str) -> Accepted:
    """Check every tensor: there, of its shape, of a readable dtype, and known.

    Weights are read only where a tensor that is left out has to equal another.

    Raises
    ------
    FormatError
        A tensor is missing, or has another shape or dtype than the configuration implies.
    UnsupportedModelError
        A tensor has no place in the model, or a tied head is not the embedding.
    """
    views = found_views(source, tensors)
    missing = [name for name, view in views.items() if not source.has(view.stored)]
    if missing:
        raise FormatError(_missing(source, missing))
    stored = {view.stored: None for view in views.values()}
    if isinstance(source, Checkpoint):
        source.check_dtypes(stored)
    ignored = _ignored(source, tensors, set(stored), family)
    for name, why in ignored.items():
        if why.same_as:
            _check_same(source, name, views[why.same_as].stored)
    notes = (*_tied(views, tensors), *_left_out(ignored))
    own: tuple[str, ...] = getattr(source, "notes", ())
    return Accepted(source if source.is_as_read else source.reading(views), (*own, *notes))


def _missing(source: WeightSource, missing: list[str]) -> str:
    """Say what is missing, and under which other name it is there."""
    first = missing[0]
    more = f" ({len(missing)} tensors are missing)" if len(missing) > 1 else ""
    absent = source.absent.get(first) if isinstance(source, Checkpoint) else None
    if absent:
        return f"{absent}; fetch the model again"
    short = first.removeprefix("model.")
    for name in source.names() if len(missing) > 1 else ():
        if f".{name}".endswith(f".{short}"):
            prefix = name.removesuffix(short)
            return (
                f"{source.path} has no tensor {first!r}{more}, but {name!r}: names with the prefix "
                f"{prefix!r} where 'model.' is expected; save the language model alone, with its "
                "head, under the names of AutoModelForCausalLM"
            )
    return f"{source.path} has no tensor {first!r}{more}; fetch the model again"


def _ignored(
    source: WeightSource, tensors: Tensors, read: set[str], family: str
) -> dict[str, Ignored]:
    """Why each tensor that is stored and not read is left out."""
    ignored, unknown = {}, []
    for name in source.names():
        if name in read:
            continue
        why = tensors.ignored(name)
        if why is None:
            unknown.append(name)
        else:
            ignored[name] = why
    if unknown:
        raise UnsupportedModelError(
            f"{source.path} has {_some(unknown)}, which a {family} model of this config.json does "
            "not use; is it another model, or does config.json lack what calls for it (a bias)?"
        )
    return ignored


def _check_same(source: WeightSource, name: str, other: str) -> None:
    if source.shape(name) == source.shape(other) and np.array_equal(
        source.dense(name), source.dense(other), equal_nan=True
    ):
        return
    raise UnsupportedModelError(
        f"{source.path}: config.json ties {name!r} to {other!r}, but they differ; to use both, set "
        f"tie_word_embeddings to false there, or else remove {name!r}"
    )


def _tied(views: Mapping[str, View], tensors: Tensors) -> list[str]:
    return [
        f"{name} is not stored; {views[name].stored}, which is tied to it, is read in its place"
        for name in tensors.tables.values()
        if (twin := tensors.ignored(views[name].stored)) is not None and twin.same_as == name
    ]


def _left_out(ignored: Mapping[str, Ignored]) -> list[str]:
    """One line for each reason to leave out what a reader is told of."""
    groups: dict[str, list[str]] = {}
    for name, why in ignored.items():
        if why.told:
            groups.setdefault(why.reason, []).append(name)
    return [f"not read: {_some(names)} ({reason})" for reason, names in groups.items()]


def _some(names: list[str]) -> str:
    """A few of several names, and how many more."""
    more = f" and {len(names) - _NAMED} more tensors" if len(names) > _NAMED else ""
    return ", ".join(map(repr, names[:_NAMED])) + more
