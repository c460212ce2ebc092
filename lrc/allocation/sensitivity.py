"""How much the model's output suffers from an error in each matrix, measured.

By the linearity theorem (Malinovskii et al. 2024, arXiv 2411.17525) the loss of a model whose
matrices have small independent errors is the sum over matrices of a_i e_i^2, with e_i the
relative error; one measurement at the lowest width gives a_i = KL_i / e_i^2.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lrc.allocation.candidates import Use
from lrc.allocation.endtoend import Trial, divergences
from lrc.allocation.options import Option
from lrc.allocation.sizes import linear_shapes
from lrc.allocation.survey import TABLE_WIDTHS, SurveyJob
from lrc.errors import FormatError
from lrc.models.tensors import EMBEDDING

#: Floating-point operations that sensitivities may cost, whatever `AllocationSpec.passes` says.
MOST_WORK = 2.5e14
#: Memory for the activations of all models measured at once.
MOST_BYTES = 1 << 30
#: A divergence below this share of the median is taken for noise.
NOISE_FLOOR = 1e-3


@dataclass(frozen=True)
class Sensitivities:
    """What was measured.

    ``slope`` is a_i by matrix name, ``divergence`` the KL of the original from the model with
    only that matrix at its lowest width: of a group, each member's share. ``group`` says what was
    changed together: "matrix", "site", "sites alike" (those of experts), "block" or "N blocks".
    ``tables`` holds a_i of embedding and head, where they were measured.
    """

    slope: dict[str, float]
    divergence: dict[str, float]
    group: str
    tables: dict[str, float]

    def check(self, names: Collection[str]) -> None:
        """Refuse what cannot be of the matrices ``names``, by their names.

        Raises
        ------
        FormatError
            A number is missing, or is none.
        """
        for found in (self.slope, self.divergence):
            if set(found) != set(names):
                raise FormatError("it is of other matrices")
        numbers = [*self.slope.values(), *self.divergence.values(), *self.tables.values()]
        if not all(isinstance(number, int | float) for number in numbers):
            raise FormatError("it holds something else than numbers")


def measure(
    job: SurveyJob,
    options: Mapping[str, Sequence[Option]],
    tables: Mapping[str, Mapping[int, float]],
) -> Sensitivities:
    """Measure every group of matrices at its cheapest options, and every table at 4 bits.

    Parameters
    ----------
    job : SurveyJob
    options : mapping
        By matrix name, cheapest first, from the survey.
    tables : mapping
        Squared relative errors by table and width; empty to leave tables alone.
    """
    uses: dict[str, Use] = {}
    for block in range(job.model.tensors.blocks):
        uses |= job.store.uses(block)
    label, groups = choose_groups(job, list(options), uses)
    lowest = TABLE_WIDTHS[0]
    trials = [Trial({name: options[name][0].candidate for name in group}) for group in groups]
    embedding = job.model.tensors.tables[EMBEDDING]
    trials += [
        Trial(embed_bits=lowest) if name == embedding else Trial(head_bits=lowest)
        for name in tables
    ]
    found = divergences(job, trials, "sensitivities")
    floor = max(NOISE_FLOOR * float(np.median(found)), 1e-12) if found else 0.0
    found = [max(value, floor) for value in found]
    slope: dict[str, float] = {}
    for group, value in zip(groups, found[: len(groups)], strict=True):
        # Shared out in proportion to the squared errors, so a group has one slope; but an expert
        # counts no more than it does in the tokens.
        total = sum(uses[name].mass * options[name][0].error for name in group)
        slope |= {name: uses[name].mass * value / total if total > 0 else 0.0 for name in group}
    of_tables = {
        name: value / tables[name][lowest] if tables[name][lowest] > 0 else 0.0
        for name, value in zip(tables, found[len(groups) :], strict=True)
    }
    divergence = {name: a * options[name][0].error for name, a in slope.items()}
    return Sensitivities(slope, divergence, label, of_tables)


def choose_groups(
    job: SurveyJob, names: Sequence[str], uses: Mapping[str, Use]
) -> tuple[str, list[tuple[str, ...]]]:
    """What to change together: the finest groups that the allowed work and memory permit.

    A group first changed in block b of L costs (L - b) / L passes of the held-out tokens.
    """
    matrices = job.model.tensors.matrices
    layers = job.model.tensors.blocks
    passes = min(
        job.allocation.passes, MOST_WORK / (2.0 * job.heldout.positions * _weights(job, uses))
    )
    stream_bytes = 4 * job.heldout.positions * job.model.hidden_size
    best = "", [tuple(names)]
    for label in ("matrix", "site", "sites alike", "block", *_bands(layers)):
        groups = _grouped(job, label, names)
        cost = sum(layers - matrices[group[0]].block for group in groups) / layers
        best = label, groups
        if cost <= passes and len(groups) * stream_bytes <= MOST_BYTES:
            break
    return best


def _bands(layers: int) -> list[str]:
    return [f"{2**i} blocks" for i in range(1, math.ceil(math.log2(max(layers, 2))) + 1)]


def _grouped(job: SurveyJob, label: str, names: Sequence[str]) -> list[tuple[str, ...]]:
    matrices = job.model.tensors.matrices
    groups: dict[object, list[str]] = {}
    for name in names:
        block = matrices[name].block
        mark: object = (
            name
            if label == "matrix"
            else (block, matrices[name].site)
            if label == "site"
            else (block, matrices[name].site.partition(".")[0])
            if label == "sites alike"
            else block
            if label == "block"
            else block // int(label.split()[0])
        )
        groups.setdefault(mark, []).append(name)
    return [tuple(group) for group in groups.values()]


def _weights(job: SurveyJob, uses: Mapping[str, Use]) -> float:
    """Weights that a token passes, nearly."""
    tensors = job.model.tensors
    blocks = sum(uses[name].part * math.prod(s) for name, s in linear_shapes(tensors).items())
    return blocks + math.prod(tensors.shape(tensors.tables[EMBEDDING]))
