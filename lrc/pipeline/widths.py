"""Bits of each matrix where L R goes over codes whose rank is given: every width is tried.

What is chosen is the least sum of losses within the budget, exactly (:mod:`lrc.allocation.solve`).
LQ-LoRA (arXiv 2311.12023) asks an integer programme for the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.allocation.budget import budget_bytes, check_least
from lrc.allocation.solve import Choice, solve
from lrc.base.atomic import atomic_write_json
from lrc.base.own_files import read_own_json, reading
from lrc.base.progress import Progress
from lrc.base.threads import ordered_map
from lrc.calibrate.every_block import EveryBlock
from lrc.calibrate.streams import Inputs
from lrc.calibrate.walk import Given, SiteAtWork, Streams, start_stream, walk_stacks
from lrc.codebooks import CODEBOOKS
from lrc.errors import SpecError
from lrc.models.base import Model, Stack
from lrc.models.tensors import Tensors, linear_of
from lrc.nn.linear import Linear
from lrc.pipeline.metric import GradientStore
from lrc.pipeline.site import SiteProblem, site_problems
from lrc.solvers.base import Decomposition
from lrc.spec import AllocationSpec, CompressSpec, MatrixSpec, QuantSpec

#: Widths that are tried, as far as the codebook has them.
WIDTHS = (2, 3, 4, 8)
_RESULT = "unfinished-widths.json"


def tries_widths(spec: CompressSpec) -> bool:
    """Whether a budget is spent here: on bits alone, for the rank is given."""
    return spec.decompose.recipe == "corrected"


def check_widths(tensors: Tensors, spec: CompressSpec, allocation: AllocationSpec) -> None:
    """Refuse what cannot be chosen, before any work.

    Raises
    ------
    SpecError
        Saying what to give instead.
    """
    if allocation.file_bytes or allocation.generations:
        raise SpecError(
            "bits are chosen for codes with L R over them by --target-bpw alone, without "
            "--generations"
        )
    quants = _quants(spec)
    if len(quants) < 2:
        raise SpecError(
            f"codebook {spec.decompose.quant.codebook} has one width alone: nothing to choose"
        )
    spec.check_size()
    check_least(tensors, _at(spec, quants[0]), allocation)


def _quants(spec: CompressSpec) -> list[QuantSpec]:
    quant = spec.decompose.quant
    known = CODEBOOKS[quant.codebook].bits
    return [dataclasses.replace(quant, bits=bits) for bits in WIDTHS if bits in known]


def _at(spec: CompressSpec, quant: QuantSpec) -> CompressSpec:
    return dataclasses.replace(spec, decompose=dataclasses.replace(spec.decompose, quant=quant))


def with_widths(
    folder: Path,
    model: Model,
    spec: CompressSpec,
    allocation: AllocationSpec,
    inputs: Inputs,
    gradients: GradientStore | None,
    *,
    threads: int,
    progress: Progress,
) -> CompressSpec:
    """``spec`` with bits for every matrix that it does not name; what was chosen is on disk.

    Notes
    -----
    Cost: one pass of the original, and as many compressions of its matrices as there are widths.
    """
    result = folder / _RESULT
    if result.is_file():
        with reading(result):
            return CompressSpec.from_dict(read_own_json(result))
    quants = _quants(spec)
    with progress.bar("widths", len(model.tensors.matrices), "matrix") as advance:
        tried = _Tried(spec, quants, gradients, advance)

        def start(stack: Stack, chunks: Sequence[NDArray[Any]], given: Given) -> Streams:
            return Streams(start_stream(stack, chunks, threads, given.student))

        walk_stacks(model, inputs, start, tried, threads)
    model.release()
    picks = solve(tried.choices, budget_bytes(model.tensors, allocation))
    matrices = dict(spec.matrices)
    for name, pick in picks.items():
        why = f"{quants[pick].bits} bits: the least sum of losses"
        matrices.setdefault(name, MatrixSpec(quants[pick], spec.decompose.low_rank, why))
    chosen = dataclasses.replace(spec, matrices=matrices)
    atomic_write_json(result, chosen.to_dict())
    return chosen


def forget_widths(folder: Path) -> None:
    """Remove what is kept in ``folder``."""
    (folder / _RESULT).unlink(missing_ok=True)


@dataclass
class _Tried(EveryBlock):
    """The visitor that decomposes every matrix at every width; nothing is replaced."""

    spec: CompressSpec
    quants: Sequence[QuantSpec]
    gradients: GradientStore | None
    advance: Callable[..., object]
    choices: dict[str, list[Choice]] = field(default_factory=dict)

    def visit(self, at: SiteAtWork) -> dict[str, Linear]:
        """Try the matrices of a site."""
        for quant in self.quants:
            for problem in site_problems(at, _at(self.spec, quant), self.gradients):
                solved = ordered_map(problem.solve, problem.targets, problem.at_once)
                for key, found in zip(problem.targets, solved, strict=True):
                    choice = Choice(found.matrix.stored_bits // 8, _loss(problem, key, found))
                    self.choices.setdefault(linear_of(at.tensors[key]), []).append(choice)
        self.advance(len(at.site.linears))
        return {}


def _loss(problem: SiteProblem, key: str, found: Decomposition) -> float:
    """What a matrix costs the model: by its Fisher information where that is known.

    sum_ji r_j E_ji^2 c_i / sum_j r_j with the information of rows and columns; else the relative
    squared error, by the numbers of the matrix.
    """
    W = problem.at.weight(key)
    importances = problem.importances(key)
    if importances is None:
        return W.size * found.relative_error**2
    columns, rows = (of.astype(np.float64) for of in importances)
    error = (W - found.to_dense()).astype(np.float64)
    total = float(rows.sum())
    return float(rows @ np.square(error) @ columns) / total if total > 0 else 0.0
