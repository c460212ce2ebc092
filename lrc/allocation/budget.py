"""From measured sensitivities and a budget to one option for everything that can be chosen."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lrc.allocation.endtoend import Trial
from lrc.allocation.options import WIDTHS, Option, candidate_ranks, codebook_of
from lrc.allocation.sensitivity import Sensitivities
from lrc.allocation.sizes import (
    linear_bytes,
    linear_shapes,
    table_specs,
    weight_file_bytes,
    weights_of,
)
from lrc.allocation.solve import Choice, solve
from lrc.allocation.survey import TABLE_WIDTHS
from lrc.errors import SpecError
from lrc.models.tensors import EMBEDDING, HEAD, Tensors
from lrc.parts.layout import stored_bytes
from lrc.spec import AllocationSpec, CompressSpec, MatrixSpec

Picks = dict[str, int]
#: Rounds of solving and counting headers; they settle after one or two.
_MOST_ROUNDS = 8


def budget_bytes(tensors: Tensors, allocation: AllocationSpec) -> int:
    """Most bytes that ``allocation`` allows, of the linear layers or of the weight files."""
    if allocation.file_bytes:
        return allocation.file_bytes
    return int(allocation.bits_per_weight * weights_of(tensors) / 8)


def counted_bytes(tensors: Tensors, spec: CompressSpec, allocation: AllocationSpec) -> int:
    """Exact bytes of the same with ``spec``, whose ranks are all numbers."""
    count = weight_file_bytes if allocation.file_bytes else linear_bytes
    return count(tensors, spec)


def least_spec(tensors: Tensors, spec: CompressSpec, allocation: AllocationSpec) -> CompressSpec:
    """``spec`` with the cheapest choice for everything that it leaves open."""
    matrices, solver = dict(spec.matrices), spec.decompose
    for name, (m, n) in linear_shapes(tensors).items():
        quant = codebook_of(solver, WIDTHS[0], (m, n))
        low_rank = dataclasses.replace(solver.low_rank, rank=candidate_ranks(solver, (m, n))[0])
        matrices.setdefault(name, MatrixSpec(quant, low_rank))
    changed = dataclasses.replace(spec, matrices=matrices)
    if not allocation.file_bytes:
        return changed
    return dataclasses.replace(changed, embed_bits=TABLE_WIDTHS[0], head_bits=TABLE_WIDTHS[0])


def check_budget(tensors: Tensors, spec: CompressSpec, allocation: AllocationSpec) -> None:
    """Refuse a budget that nothing fits.

    Raises
    ------
    SpecError
        Naming the least possible size.
    """
    check_least(tensors, least_spec(tensors, spec, allocation), allocation)


def check_least(tensors: Tensors, narrowest: CompressSpec, allocation: AllocationSpec) -> None:
    """The same, where ``narrowest`` is what takes least."""
    least = counted_bytes(tensors, narrowest, allocation)
    if least <= budget_bytes(tensors, allocation):
        return
    if allocation.file_bytes:
        raise SpecError(
            f"a target of {allocation.file_bytes} bytes is too small; "
            f"the least possible is {least} bytes: give at least that"
        )
    possible = math.ceil(8e4 * least / weights_of(tensors)) / 1e4
    raise SpecError(
        f"a target of {allocation.bits_per_weight:g} bits a weight is too small; "
        f"the least possible is {possible:g} of them: give at least that"
    )


@dataclass(frozen=True)
class Budgeted:
    """Everything that can be chosen, and what bounds it.

    ``options`` are those of matrices by name, ``tables`` squared errors of embedding and head by
    width (none unless the whole file is bounded), ``measured`` their sensitivities.
    """

    tensors: Tensors
    spec: CompressSpec
    allocation: AllocationSpec
    options: Mapping[str, Sequence[Option]]
    tables: Mapping[str, Mapping[int, float]]
    measured: Sensitivities

    @property
    def budget(self) -> int:
        """Most bytes, of the linear layers or of the weight files."""
        return budget_bytes(self.tensors, self.allocation)

    def items(self) -> dict[str, list[Choice]]:
        """Bytes of tensors and predicted KL of every choice, cheapest first."""
        found = {
            name: [Choice(o.nbytes, self.measured.slope[name] * o.error) for o in options]
            for name, options in self.options.items()
        }
        rotation = self.spec.decompose.rotation
        for name, errors in self.tables.items():
            slope, shape = self.measured.tables[name], self.tensors.shape(name)
            found[name] = [
                Choice(stored_bytes(table_specs(name, shape, bits, rotation)), slope * error)
                for bits, error in errors.items()
            ]
        return found

    def to_spec(self, picks: Mapping[str, int]) -> CompressSpec:
        """The parameters that ``picks`` mean; each matrix says why."""
        matrices = dict(self.spec.matrices)
        for name, options in self.options.items():
            chosen = options[picks[name]]
            reason = f"{chosen}: KL {self.measured.divergence[name]:.2g} at {options[0]}"
            matrices[name] = chosen.matrix_spec(reason)
        bits = {name: tuple(errors)[picks[name]] for name, errors in self.tables.items()}
        embed_bits, head_bits = self.spec.table_bits(self.allocation.bits_per_weight)
        if bits:  # a tied head is stored once, with the embedding
            of_role = {role: bits[name] for role, name in self.tensors.tables.items()}
            embed_bits = of_role[EMBEDDING]
            head_bits = of_role.get(HEAD, embed_bits)
        return dataclasses.replace(
            self.spec, matrices=matrices, embed_bits=embed_bits, head_bits=head_bits
        )

    def to_trial(self, picks: Mapping[str, int]) -> Trial:
        """The model that ``picks`` mean, as far as the survey can tell."""
        spec = self.to_spec(picks)
        candidates = {
            name: options[picks[name]].candidate for name, options in self.options.items()
        }
        return Trial(candidates, *spec.table_bits())

    def size(self, picks: Mapping[str, int]) -> int:
        """Exact bytes of what the budget bounds."""
        return counted_bytes(self.tensors, self.to_spec(picks), self.allocation)

    def fits(self, picks: Mapping[str, int]) -> bool:
        """Whether ``picks`` keep to the budget."""
        return self.size(picks) <= self.budget

    def solve(self) -> Picks:
        """Least predicted KL within the budget.

        Tensors are what the solver counts; headers follow from its answer, so it is asked again
        with what they leave.
        """
        items = self.items()
        best = dict.fromkeys(items, 0)
        rest = self.size(best) - _cost(items, best)
        for _ in range(_MOST_ROUNDS):
            if self.budget - rest < _cost(items, dict.fromkeys(items, 0)):
                break
            picks = solve(items, self.budget - rest)
            over = self.size(picks) - self.budget
            if over <= 0 and _loss(items, picks) <= _loss(items, best):
                best = picks
            actual = self.size(picks) - _cost(items, picks)
            if actual == rest or (over <= 0 and actual > rest):
                break
            rest = actual if over <= 0 else max(rest, actual) + 1
        return best


def _cost(items: Mapping[str, Sequence[Choice]], picks: Mapping[str, int]) -> int:
    return sum(items[name][pick].cost for name, pick in picks.items())


def _loss(items: Mapping[str, Sequence[Choice]], picks: Mapping[str, int]) -> float:
    return sum(items[name][pick].loss for name, pick in sorted(picks.items()))
