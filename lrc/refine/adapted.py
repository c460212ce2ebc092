"""Programs with low-rank adapters beside their packed layers, and where adapters begin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lrc.errors import SpecError
from lrc.models.base import Model
from lrc.nn.linear import DenseLinear, Linear
from lrc.nn.ops import Multiply
from lrc.refine.adapter import AdaptedLinear, Factors
from lrc.refine.changed import OpenedPrograms
from lrc.refine.gradients import Ops, Place
from lrc.refine.opened import OpenedLinear
from lrc.refine.vjp import Array, Asked


class Adapters:
    """Programs with adapters beside their packed layers, whose factors alone are asked for.

    Parameters
    ----------
    places : mapping
        Names of adapted matrices, by program, place of the operation, and place in the site.
    factors : mapping
        Adapters by name.
    opened : OpenedPrograms
    """

    def __init__(
        self,
        places: Mapping[Place, Mapping[tuple[int, int], str]],
        factors: Mapping[str, Factors],
        opened: OpenedPrograms,
    ) -> None:
        self._places, self._factors, self._opened = places, factors, opened

    def ops(self, place: Place, ops: Ops) -> Ops:
        """The operations with their layers opened, and adapters beside them."""
        found = list(self._opened(place, ops))
        for (at, j), name in self._places.get(place, {}).items():
            op = found[at]
            assert isinstance(op, Multiply)
            layers = list(op.linears)
            layers[j] = _adapted(layers[j], self._factors[name])
            found[at] = replace(op, linears=tuple(layers))
        return tuple(found)

    def asked(self, place: Place, ops: Ops) -> Mapping[int, Asked]:
        """Their names."""
        found: dict[int, list[str]] = {}
        for at, j in self._places.get(place, {}):
            found.setdefault(at, []).extend(f"{j}.{name}" for name in AdaptedLinear.ARRAYS)
        return found


def _adapted(layer: object, factors: Factors) -> AdaptedLinear:
    if not isinstance(layer, DenseLinear | OpenedLinear):
        raise SpecError(f"a {type(layer).__name__} takes no adapter")
    return AdaptedLinear(layer, *factors)


def start(layer: OpenedLinear, rank: int, rng: np.random.Generator) -> Factors:
    """Where an adapter begins: it adds nothing yet, and looks at the layer's first components.

    Those of its L R, as far as it has them, and random directions: rows of ``down`` are as long as
    rows of independent numbers of variance 1/n.
    """
    m, n = layer.shape
    down = rng.standard_normal((rank, n)).astype(np.float32)
    if layer.right is not None:
        first = layer.input_signed(layer.rotated_back(layer.right[:rank]))
        down[: len(first)] = first
    down /= np.linalg.norm(down, axis=1, keepdims=True)
    return Factors(down, np.zeros((rank, m), np.float32))


def weight_size(layer: OpenedLinear) -> float:
    """Root mean square of the weights: what their rotation leaves as it is."""
    total = np.zeros(layer.shape, np.float32)
    if layer.codes is not None:
        total += layer.codes * layer.row_scales[:, None]
    if layer.left is not None and layer.right is not None:
        total += layer.left.T @ layer.right
    return abs(float(layer.gain[0])) * float(np.sqrt(np.mean(total**2)))


def layers_of(model: Model, place: Place) -> dict[tuple[int, int], tuple[str, Linear]]:
    """Linear layers of a block, and the names of their tensors.

    By the place of the operation, and the place in its site.
    """
    stack = model.stacks[place.stack]
    block, names = stack.load_block(place.part), stack.linears(place.part)
    known = {id(layer): names[key] for key, layer in block.linears.items()}
    return {
        (at, j): (known[id(layer)], layer)
        for at, op in enumerate(block.ops())
        if isinstance(op, Multiply)
        for j, layer in enumerate(op.linears)
        if id(layer) in known
    }


def as_stored(x: Array) -> Array:
    """Factors as float16 stores them; what has gone too far is infinite, and no result."""
    with np.errstate(over="ignore"):
        return x.astype(np.float16).astype(np.float32)
