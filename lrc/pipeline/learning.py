"""What a block learns of the original's once its matrices are solved: their factors are adapted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lrc.calibrate.taught import Taught
from lrc.models.base import Block
from lrc.nn.linear import Linear
from lrc.nn.ops import STREAM, Multiply, Op, Values
from lrc.nn.packed import PackedLinear
from lrc.parts.low_rank import LowRank
from lrc.parts.matrix import PackedMatrix
from lrc.quant.factors import quantize_factor
from lrc.refine.distil import Learned, Lesson, distil, factors, mean_loss
from lrc.refine.rules import with_opened
from lrc.refine.vjp import Array, ByPlace
from lrc.spec.refine import DistilSpec


@dataclass(frozen=True)
class Lessons:
    """What came of the lessons of a block: its layers, and what was learned, for the report."""

    linears: Mapping[str, Linear]
    learned: Learned

    @property
    def note(self) -> str:
        """For the report of a matrix."""
        found = self.learned
        return (
            f"L R of the block distilled in {found.epochs} epochs: loss on windows held out "
            f"{found.before:.4f} to {found.after:.4f}; the error is that before"
        )


def learn(
    block: Block,
    linears: Mapping[str, Linear],
    taught: Taught,
    spec: DistilSpec,
    *,
    seed: int,
    threads: int,
) -> Lessons:
    """Adapt L and R of the ``linears`` of a block, and pack them again; dense ones stay.

    What is returned is judged as it is stored: where rounding the factors has cost more than was
    learned, everything stays as it was.
    """
    ops = with_opened(block.with_linears(linears).ops())
    start, lessons = factors(ops), _lessons(taught, spec.windows)
    found = distil(ops, start, lessons, spec, seed=seed, threads=threads)
    new = _packed_again(block, ops, linears, found.arrays)
    stored = with_opened(block.with_linears(new).ops())
    heldout = [lesson for step in lessons[:: spec.held_out] for lesson in step]
    after = mean_loss(stored, heldout, threads)
    if after >= found.before:
        return Lessons(linears, dataclasses.replace(found, after=found.before))
    return Lessons(new, dataclasses.replace(found, after=after))


def _lessons(taught: Taught, windows: int) -> list[list[Lesson]]:
    """Steps of so many windows, each of both streams."""
    steps = []
    for chunk, target in enumerate(taught.targets):
        for first in range(0, len(target), windows):
            rows = slice(first, first + windows)
            steps.append(
                [
                    Lesson(
                        _values(hidden[chunk], given[chunk] if given else {}, rows), target[rows]
                    )
                    for hidden, given in taught.streams
                ]
            )
    return steps


def _values(hidden: Array, given: Values, rows: slice) -> Values:
    return {**{name: value[rows] for name, value in given.items()}, STREAM: hidden[rows]}


def _packed_again(
    block: Block, ops: Sequence[Op], linears: Mapping[str, Linear], arrays: ByPlace
) -> dict[str, Linear]:
    """The layers with other factors, in the bits that they had."""
    places = [place for place, op in enumerate(ops) if isinstance(op, Multiply)]
    found = dict(linears)
    for site, place in zip(block.sites, places, strict=True):
        named = arrays.get(place, {})
        for index, key in enumerate(site.linears):
            old = linears[key]
            if f"{index}.left" in named and isinstance(old, PackedLinear):
                factors = {side: named[f"{index}.{side}"] for side in ("left", "right")}
                found[key] = PackedLinear(_with_factors(old.matrix, factors), old.bias)
    return found


def _with_factors(matrix: PackedMatrix, factors: Mapping[str, Array]) -> PackedMatrix:
    (old,) = (part for part in matrix.parts if isinstance(part, LowRank))
    left, right = (quantize_factor(factors[side], old.right.bits) for side in ("left", "right"))
    parts = tuple(LowRank(left, right) if part is old else part for part in matrix.parts)
    return dataclasses.replace(matrix, parts=parts)
