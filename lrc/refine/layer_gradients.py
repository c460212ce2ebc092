"""Statistics of the divergence's gradient at the outputs of every linear layer, block by block.

They are those of the model itself: the covariance of the gradients of its own predictions
(`lrc.refine.fisher`), whose part at a layer is what an error of its outputs costs in KL divergence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lrc.base.progress import SILENT, Progress
from lrc.linalg.precision import working_dtype
from lrc.models.base import Model
from lrc.models.sweep import Part
from lrc.nn.ops import Multiply
from lrc.refine.backward import Backward
from lrc.refine.fisher import FisherProbe
from lrc.refine.gradients import Gradients, Ops, Place
from lrc.refine.rules import with_opened
from lrc.refine.vjp import Array, Asked, ByPlace

#: Bytes of residual streams that are kept at once: windows of more are worked on in several runs.
BATCH_BYTES = 1 << 30


class LayerPlace(NamedTuple):
    """A linear layer of a block: of which site, and which of its layers."""

    site: int
    layer: int


@dataclass
class LayerGradients:
    """Of one layer, over the tokens that it saw.

    Attributes
    ----------
    energies : list of float32 arrays (rows,)
        Squared length of each token's gradient, of each part of the batch. Rows of an expert are
        those of the tokens that are routed to it.
    moment : (m, m) or None
        Sum of ``g g^T |g|^(2 power - 2)``, in the dtype of `working_dtype`.
    columns, rows : (n,) and (m,) float64, or None
        Squared entries of the weight's gradient of each part, summed over its rows, and over its
        columns: the Fisher information of the weights where parts are independent.
    """

    energies: list[NDArray[np.float32]] = field(default_factory=list)
    moment: NDArray[np.floating] | None = None
    columns: NDArray[np.float64] | None = None
    rows: NDArray[np.float64] | None = None

    def add(self, g: Array, power: float, *, outputs: bool) -> None:
        """Take in gradients (rows, m) of one part."""
        energy = np.einsum("ij,ij->i", g, g)
        self.energies.append(energy.astype(np.float32, copy=False))
        if not outputs:
            return
        if self.moment is None:
            self.moment = np.zeros((g.shape[1],) * 2, working_dtype(g.shape[1]))
        alive = energy > 0
        scaled = g[alive] * (energy[alive, None] ** (0.5 * (power - 1)))
        self.moment += scaled.T @ scaled

    def add_weight(self, G: Array) -> None:
        """Take in the gradient (m, n) of the weight, of one part."""
        squares = np.square(G)
        columns, rows = (squares.sum(axis=axis, dtype=np.float64) for axis in (0, 1))
        self.columns = columns if self.columns is None else self.columns + columns
        self.rows = rows if self.rows is None else self.rows + rows


#: Of a block of all stacks, those of its layers.
OfBlock: TypeAlias = Mapping[LayerPlace, LayerGradients]


def batches_of(model: Model, parts: Sequence[Part]) -> Iterator[slice]:
    """Parts whose residual streams fit in memory together, one at least."""
    start, size = 0, 0
    for index, part in enumerate(parts):
        own = _kept_bytes(model, part)
        if index > start and size + own > BATCH_BYTES:
            yield slice(start, index)
            start, size = index, 0
        size += own
    yield slice(start, len(parts))


def _kept_bytes(model: Model, part: Part) -> int:
    """About what one part's residual streams before every block take."""
    inputs = part if isinstance(part, tuple) else (part,)
    hidden = max(shape[-1] for shape in map(model.tensors.shape, model.tensors.tables.values()))
    tokens = [int(of.shape[0] * of.shape[-1]) for of in inputs]
    blocks = [len(stack) + 2 for stack in model.stacks]
    return 4 * int(hidden) * sum(t * b for t, b in zip(tokens, blocks, strict=True))


def layer_gradients(
    model: Model,
    parts: Sequence[Part],
    keep: Callable[[int, OfBlock], None],
    *,
    power: float,
    outputs: bool,
    weights: bool = False,
    seed: int,
    first: int = 0,
    threads: int = 1,
    progress: Progress = SILENT,
) -> None:
    """Gradients at the outputs of every linear layer of a model, block by block from the top.

    Parameters
    ----------
    model : Model
        The original.
    parts : sequence of (B, T) token ids, or tuples of the inputs of each stack
        A batch; see `batches_of`.
    keep : function
        Takes the place of a block among those of all stacks, and what was found of its layers.
    power, outputs
        See `lrc.spec.metric.MetricSpec`.
    weights : bool
        Whether the gradients of weights are looked at, too: those of single parts.
    seed : int
        Of the probe; with ``first``, the place of the first part among those of all batches.
    threads : int
        Never changes a bit.

    Raises
    ------
    UnsupportedModelError
        An operation of the model has no backward pass.
    SpecError
        The model hears, and token ids are all that is given.

    Notes
    -----
    Cost: about 2.5 forward passes, T m^2 a matrix with ``outputs``, and T m n with ``weights``.
    Memory: that of `lrc.refine.backward`, the moments of one block, and with ``weights`` those of
    one block for each thread.
    """
    seeds = [(seed, first + index) for index in range(len(parts))]
    programs = _Outputs(model, weights=weights)
    with progress.bar("gradients", sum(map(len, model.stacks)), "block") as advance:

        def done(place: Place, layers: OfBlock) -> None:
            keep(model.stacks[place.stack].first + place.part, layers)
            advance()

        found = _Collected(programs.sites, done, power, outputs)
        Backward(model, programs, threads).gradients(parts, FisherProbe(seeds), found)
        found.flush()


class _Outputs:
    """The programs of a model as they are; gradients at outputs, and weights, are wanted.

    ``sites`` has, of every block that was asked for, the site of each operation that is one.
    """

    def __init__(self, model: Model, *, weights: bool) -> None:
        self._names = ("output", "weight") if weights else ("output",)
        self._blocks = [len(stack) for stack in model.stacks]
        self.sites: dict[Place, dict[int, int]] = {}

    def ops(self, place: Place, ops: Ops) -> Ops:
        """The same, opened."""
        return with_opened(ops)

    def asked(self, place: Place, ops: Ops) -> Mapping[int, Asked]:
        """The outputs of every layer of a block; those of the head are as wide as a vocabulary."""
        if not 0 <= place.part < self._blocks[place.stack]:
            return {}
        found = {i: len(op.linears) for i, op in enumerate(ops) if isinstance(op, Multiply)}
        self.sites[place] = {i: site for site, i in enumerate(found)}
        return {
            i: tuple(f"{j}.{name}" for j in range(count) for name in self._names)
            for i, count in found.items()
        }


class _Collected(Gradients):
    """Sums the statistics of a block while its gradients come in, and hands them over."""

    def __init__(
        self,
        sites: Mapping[Place, Mapping[int, int]],
        done: Callable[[Place, OfBlock], None],
        power: float,
        outputs: bool,
    ) -> None:
        super().__init__()
        self._sites, self._done = sites, done
        self._power, self._outputs = power, outputs
        self._place: Place | None = None
        self._layers: dict[LayerPlace, LayerGradients] = {}

    def add(self, place: Place, found: ByPlace) -> None:
        """Take in what one part gives at a program."""
        if place not in self._sites:  # what lies before the blocks, and after them
            return
        if place != self._place:
            self.flush()
            self._place = place
        for op, named in found.items():
            for name, g in named.items():
                layer, what = name.split(".")
                at = LayerPlace(self._sites[place][op], int(layer))
                of = self._layers.setdefault(at, LayerGradients())
                if what == "weight":
                    of.add_weight(g)
                else:
                    of.add(g, self._power, outputs=self._outputs)

    def flush(self) -> None:
        """Hand over what was found of the last block."""
        place, layers, self._layers = self._place, self._layers, {}
        if place is not None and layers:
            self._done(place, layers)
