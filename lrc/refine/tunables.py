"""What can be tuned of a compressed model while its codes stay: where it is stored, where used.

Programs do not say which stored tensor an array is: some are a tensor plus one, or another shape of
it. So it is found out: the model is opened once more over tensors that differ by a pattern, and an
array that differs by the same pattern is that tensor plus a constant.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

import numpy as np

from lrc.errors import SpecError
from lrc.models import load_model
from lrc.models.base import Model, Stack
from lrc.models.source import WeightSource
from lrc.models.tensors import bias_of, linear_of
from lrc.nn.ops import Multiply, Norm, Op
from lrc.nn.packed import PackedLinear
from lrc.parts.codes import Codes
from lrc.parts.low_rank import LowRank
from lrc.parts.matrix import PackedMatrix
from lrc.parts.on_basis import OnBasis
from lrc.parts.packed import PackedCheckpoint
from lrc.parts.signs import unpack_signs
from lrc.refine.gradients import OPENING, Place
from lrc.refine.overlay import Overlay
from lrc.refine.vjp import Array, ByPlace

#: What can be asked for.
WHAT = ("norms", "biases", "added", "gains", "rows", "signs", "factors")
#: Arrays of an opened layer, by the kind of tunable that they are.
OF_MATRIX = {
    "gains": "gain", "rows": "row_scales", "components": "component_scales", "left": "left",
    "right": "right", "signs_in": "signs_in", "signs_out": "signs_out",
}  # fmt: skip


class Use(NamedTuple):
    """An array of a program that is a tunable plus ``offset``, in a shape of its own."""

    place: Place
    op: int
    name: str
    offset: float
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Tunable:
    """Numbers that are tuned together.

    Attributes
    ----------
    tensor : str
        The tensor that stores them, or the matrix that they belong to.
    what : str
        "norms", "biases", or one of `OF_MATRIX`. "rows", "components": what the scales of a
        matrix's rows, or of its low-rank components, are multiplied by.
    value : array
        As stored; zeros of a bias that is "added" to a layer which has none.
    uses : list of Use
    others : list of str
        Further matrices that store the same: the signs of inputs, which a site's matrices share.
    """

    tensor: str
    what: str
    value: Array
    uses: list[Use] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str]:
        """What tells it from others."""
        return self.tensor, self.what


class Found(NamedTuple):
    """What can be tuned, in the order of the programs, and how many arrays are no one tensor."""

    tunables: list[Tunable]
    missed: int


def find_tunables(source: WeightSource, what: Collection[str]) -> Found:
    """All that is asked for.

    Raises
    ------
    SpecError
        Something else is asked for, or the model has nothing of it.
    """
    unknown = sorted(set(what) - set(WHAT))
    if unknown or not what:
        raise SpecError(f"cannot tune {', '.join(unknown) or 'nothing'}; use {', '.join(WHAT)}")
    model = load_model(source)
    found: dict[tuple[str, str], Tunable] = {}
    missed = 0
    for index, stack in enumerate(model.stacks):
        for part in range(OPENING, len(stack) + 1):
            missed += _find(found, model, stack, Place(index, part), what)
    for name in source.basis_holders if isinstance(source, PackedCheckpoint) else ():
        found.pop((name, "right"), None)  # it would change under the matrices that share it
    if not found:
        raise SpecError(f"the model has none of {', '.join(what)}; ask for more of {WHAT}")
    return Found(list(found.values()), missed)


def _find(
    found: dict[tuple[str, str], Tunable],
    model: Model,
    stack: Stack,
    place: Place,
    what: Collection[str],
) -> int:
    """Add those of one program; returns how many arrays of it are no one tensor."""
    inside, missed = 0 <= place.part < len(stack), 0
    names = model.tensors.plain(stack.first + place.part if inside else None).values()
    stored = {name: model.source.dense(name) for name in names}
    patterns = {name: _pattern(i, value) for i, (name, value) in enumerate(stored.items())}
    overlay = Overlay(model.source, {name: stored[name] + patterns[name] for name in stored})
    other = load_model(cast(WeightSource, overlay)).stacks[place.stack]
    ops, layers = _program(stack, place.part)
    moved, _ = _program(other, place.part)
    for i, (one, two) in enumerate(zip(ops, moved, strict=True)):
        theirs = dict(_plain_arrays(two))
        for (kind, name), array in _plain_arrays(one):
            if kind not in what and not (kind == "biases" and "added" in what):
                continue
            difference = theirs[kind, name] - array
            tensor = _same(difference, patterns)
            if kind not in what and tensor not in model.tensors.added:
                continue
            if tensor is None:
                missed += bool(difference.any())  # what does not move is no tensor at all
            else:
                mine = found.setdefault((tensor, kind), Tunable(tensor, kind, stored[tensor]))
                offset = float(np.mean(array.ravel() - mine.value.ravel()))
                mine.uses.append(Use(place, i, name, offset, array.shape))
        if isinstance(one, Multiply):
            shifted = "norms" in what and any(
                isinstance(op, Norm) and op.target == one.source for op in ops[:i]
            )
            _find_matrices(found, one, place, i, layers, what, signs_in=not shifted)
    return missed


def _find_matrices(
    found: dict[tuple[str, str], Tunable],
    op: Multiply,
    place: Place,
    at: int,
    names: Mapping[int, str],
    what: Collection[str],
    *,
    signs_in: bool,
) -> None:
    """Add the numbers of a site's packed matrices.

    ``signs_in``: those of inputs, too. Where a norm that is tuned multiplies these already, numbers
    in the place of signs could do no more.
    """
    signs: dict[bytes, Tunable] = {}
    for j, layer in enumerate(op.linears):
        if id(layer) not in names or not isinstance(layer, PackedLinear):
            continue
        name, matrix = names[id(layer)], layer.matrix
        if "added" in what and layer.bias is None:
            bias = np.zeros(matrix.shape[0], np.float32)
            mine = Tunable(bias_of(linear_of(name)), "biases", bias)
            mine.uses.append(Use(place, at, f"{j}.bias", 0.0, bias.shape))
            found[mine.key] = mine
        for kind, array in _of_matrix(matrix, what).items():
            mine = Tunable(name, kind, array)
            if kind == "signs_in":
                if not signs_in:
                    continue
                mine = signs.setdefault(array.tobytes(), mine)
                mine.others.extend([name] if name != mine.tensor else [])
            mine.uses.append(Use(place, at, f"{j}.{OF_MATRIX[kind]}", 0.0, array.shape))
            found[mine.key] = mine


def _program(stack: Stack, part: int) -> tuple[tuple[Op, ...], dict[int, str]]:
    """Operations of a block, or around all, and names of its layers by identity."""
    if part == len(stack):
        return stack.tail(), {}
    if part == OPENING:
        return stack.opening(np.zeros((1, 1), np.intp)).ops, {}
    block, names = stack.load_block(part), stack.linears(part)
    return block.ops(), {id(layer): names[key] for key, layer in block.linears.items()}


def _of_matrix(matrix: PackedMatrix, what: Collection[str]) -> dict[str, Array]:
    """Numbers of a matrix, by kind, as far as it stores them.

    Rows: where codes have one scale a row, or one for all. Signs: where it is rotated. Factors:
    their entries, where these are numbers of 16 bits; of codes, the scales of their components.
    """
    found: dict[str, Array] = {}
    codes = [part for part in matrix.parts if isinstance(part, Codes)]
    factors = [part for part in matrix.parts if isinstance(part, LowRank)]
    if "gains" in what:
        found["gains"] = np.array([matrix.gain], np.float32)
    if "rows" in what and len(codes) == 1 and codes[0].scales.shape[1] == 1:
        found["rows"] = np.ones(matrix.shape[0], np.float32)
    if "signs" in what and matrix.rotation != "none":
        for side, size in (("signs_in", matrix.shape[1]), ("signs_out", matrix.shape[0])):
            real = unpack_signs(getattr(matrix, side), size)
            assert real is not None
            found[side] = real
    if "factors" in what and len(factors) == 1:
        (part,) = factors
        if part.left.bits == 16:
            found["left"] = part.left.to_dense()
            if not isinstance(part, OnBasis):
                found["right"] = part.right.to_dense()
        else:
            found["components"] = np.ones(part.rank, np.float32)
    return found


def _pattern(index: int, value: Array) -> Array:
    """Unlike those of other indices, and of other orders of the same numbers."""
    ramp = np.arange(value.size, dtype=np.float32).reshape(value.shape) / max(value.size, 1)
    return np.float32(8 * (index + 1)) + ramp


def _same(difference: Array, patterns: Mapping[str, Array]) -> str | None:
    """The tensor by whose pattern an array was moved; None where it is none of them."""
    for name, pattern in patterns.items():
        if pattern.size == difference.size and np.allclose(
            difference.ravel(), pattern.ravel(), rtol=0, atol=1e-3
        ):
            return name
    return None


def _plain_arrays(op: Op) -> Iterator[tuple[tuple[str, str], Array]]:
    """Arrays of norms and biases: what they are and their names, as `arrays` has them."""
    if isinstance(op, Norm):
        yield ("norms", "weight"), op.weight
        if op.bias is not None:
            yield ("norms", "bias"), op.bias
    if isinstance(op, Multiply):
        for place, layer in enumerate(op.linears):
            bias: Array | None = getattr(layer, "bias", None)
            if bias is not None:
                yield ("biases", f"{place}.bias"), bias


def by_tensor(
    tunables: Sequence[Tunable], values: Mapping[tuple[str, str], Array]
) -> dict[tuple[str, str], Array]:
    """Values by key, those that several matrices store for each of them."""
    shared = {(n, one.what): values[one.key] for one in tunables for n in one.others}
    return {**values, **shared}


def used(
    tunables: Sequence[Tunable], values: Mapping[tuple[str, str], Array]
) -> dict[Place, ByPlace]:
    """The arrays of programs that ``values`` of some tunables, by key, are."""
    found: dict[Place, ByPlace] = {}
    for one in tunables:
        for use in one.uses:
            array = (values[one.key] + np.float32(use.offset)).reshape(use.shape)
            found.setdefault(use.place, {}).setdefault(use.op, {})[use.name] = array
    return found


def gathered(
    tunables: Sequence[Tunable], grads: Mapping[Place, ByPlace]
) -> dict[tuple[str, str], Array]:
    """The gradients at tunables, by key, of those at the arrays of programs that they are."""
    found: dict[tuple[str, str], Array] = {}
    for one in tunables:
        for use in one.uses:
            g = grads[use.place].get(use.op, {}).get(use.name)
            if g is not None:
                g = g.reshape(one.value.shape)
                found[one.key] = found[one.key] + g if one.key in found else g
    return found
