"""Where the tensors of a model lie in a dense checkpoint: a layout that it has, or ours for others.

A compressed model holds each tensor under the model's own name; a dense one may hold it tied to
another, transposed, or within a stack or a fused tensor (:class:`lrc.formats.view.View`).
"""

from __future__ import annotations

from lrc.formats.view import View, stored_shapes
from lrc.models.source import WeightSource, check_shape
from lrc.models.tensors import Tensors


def layouts(name: str, tensors: Tensors) -> tuple[View, ...]:
    """Where a dense checkpoint may hold a tensor that is read: the first that is there counts."""
    return tensors.read[name].layouts or (View(name),)


def found_views(source: WeightSource, tensors: Tensors) -> dict[str, View]:
    """Where every tensor that is read lies in ``source``; under its own name where it is not.

    Raises
    ------
    FormatError
        A stored tensor has another shape than the configuration implies.
    """
    if source.is_as_read:
        views = {name: View(name) for name in tensors.read}
    else:
        views = {name: _found(source, name, tensors) for name in tensors.read}
    there = {name: view for name, view in views.items() if source.has(view.stored)}
    for stored, shape in stored_shapes(there, tensors.shape).items():
        check_shape(stored, source.shape(stored), shape)
    return views


def first_views(tensors: Tensors) -> dict[str, View]:
    """Where every tensor lies in the layout that a family names first: other programs read it."""
    return {name: layouts(name, tensors)[0] for name in tensors.read}


def _found(source: WeightSource, name: str, tensors: Tensors) -> View:
    places = layouts(name, tensors)
    return next((view for view in places if source.has(view.stored)), places[0])
