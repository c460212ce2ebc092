"""Where the tensors of a compressed model go in a model of transformers; knows nothing of torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lrc.formats.view import View, stored_shapes
from lrc.models.base import Model
from lrc.models.tensors import Matrix, Table, linear_of
from lrc.models.views import first_views
from lrc.parts.fields import HEAD
from lrc.parts.matrix import PackedMatrix
from lrc.parts.packed import PackedCheckpoint

F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Places:
    """What takes the place of which layer, and what is loaded as it always is.

    Attributes
    ----------
    layers
        Name of a linear layer to the names of the packed matrices that it is, rows of one after
        those of the other.
    transposed
        Layers whose weight lies as (n, m) in files.
    dense
        Name of a stored tensor to the names of those within it.
    """

    layers: dict[str, tuple[str, ...]]
    transposed: frozenset[str]
    dense: dict[str, tuple[str, ...]]


def places(model: Model, source: PackedCheckpoint, layer_of: Callable[[str], str | None]) -> Places:
    """Where everything that ``model`` reads goes.

    Parameters
    ----------
    model, source
        As opened here.
    layer_of
        Name of the linear layer, in the other library's model, whose weight is the stored tensor of
        this name; None where there is none: that tensor is decoded.
    """
    views = first_views(model.tensors)
    within: dict[str, list[str]] = {}
    for name, view in views.items():
        within.setdefault(view.stored, []).append(name)
    packed = source.report["matrices"]
    layers, transposed, dense = {}, set(), {}
    for stored, names in within.items():
        names.sort(key=lambda name: views[name].rows or (0, 0))
        roles = [model.tensors.read[name].role for name in names]
        fits = all(name in packed for name in names) and all(map(_is_linear, roles))
        layer = layer_of(stored) if fits and _side_by_side([views[n] for n in names]) else None
        if layer is None:
            dense[stored] = tuple(names)
            continue
        layers[layer] = tuple(names)
        if views[names[0]].transposed:
            transposed.add(layer)
    return Places(layers, frozenset(transposed), dense)


def _is_linear(role: object) -> bool:
    return isinstance(role, Matrix) or (isinstance(role, Table) and role.role == HEAD)


def _side_by_side(views: list[View]) -> bool:
    """Whether views are the rows of one matrix from the first to the last."""
    if len({view.transposed for view in views}) > 1 or any(v.index is not None for v in views):
        return False
    if len(views) == 1:
        return views[0].rows is None
    ends = [view.rows or (-1, -1) for view in views]
    return ends[0][0] == 0 and all(a[1] == b[0] for a, b in pairwise(ends))


def dense_tensors(model: Model, source: PackedCheckpoint, found: Places) -> dict[str, F32]:
    """The tensors that are no packed layers, by stored name, as float32."""
    views = first_views(model.tensors)
    shapes = stored_shapes(views, source.shape)
    made = {}
    for stored, names in found.dense.items():
        made[stored] = np.empty(shapes[stored], np.float32)
        for name in names:
            views[name].put(source.dense(name), made[stored])
    return made


def packed_layers(source: PackedCheckpoint, found: Places) -> dict[str, tuple[PackedMatrix, ...]]:
    """The matrices of every layer; their arrays are views of the files."""

    def read(name: str) -> PackedMatrix:
        matrix = source.linear(name)
        assert isinstance(matrix, PackedMatrix), linear_of(name)
        return matrix

    return {layer: tuple(map(read, names)) for layer, names in found.layers.items()}
