"""Bytes of a compressed model before it is made: every file of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lrc.allocation.budget import budget_bytes, least_spec
from lrc.allocation.sizes import linear_bytes, linear_shapes, weight_file_bytes, weights_of
from lrc.models.tensors import Tensors
from lrc.solvers.rank import most_automatic_rank
from lrc.spec import APART, AllocationSpec, CompressSpec, DecomposeSpec, MatrixSpec

#: Bytes of a manifest without matrices, and of the record of each: of errors, traces and notes.
_MANIFEST, _A_MATRIX = 3200, 900


@dataclass(frozen=True)
class Sizes:
    """Bytes of what will lie in the output's directory.

    ``weights`` are those of the weight files, headers included, and ``linear`` of the tensors of
    the linear layers in them. Where ranks are automatic, both are without L R, and ``..._most``
    with the largest that may be chosen; elsewhere both are the same. ``exact``: no byte will
    differ. With a budget, from the least possible to the budget. ``copied`` files are exact;
    the ``manifest`` is not known to the byte, for it holds errors in decimals.
    """

    weights: int
    weights_most: int
    linear: int
    linear_most: int
    matrix_weights: int
    copied: int
    manifest: int
    exact: bool
    note: str = ""

    @property
    def total(self) -> int:
        """All files, at least."""
        return self.weights + self.copied + self.manifest

    @property
    def total_most(self) -> int:
        """All files, at most."""
        return self.weights_most + self.copied + self.manifest

    @property
    def bits_per_weight(self) -> tuple[float, float]:
        """Of the linear layers, at least and at most."""
        weights = max(self.matrix_weights, 1)
        return 8 * self.linear / weights, 8 * self.linear_most / weights


def sizes(
    tensors: Tensors,
    spec: CompressSpec,
    allocation: AllocationSpec | None,
    copied: tuple[Path, ...],
) -> Sizes:
    """The sizes of what compressing a model of these tensors writes; nothing is read.

    ``copied`` are the files that go along as they are.
    """
    low, high, exact, note = _bounds(tensors, spec, allocation)
    return Sizes(
        weights=low[0],
        weights_most=high[0],
        linear=low[1],
        linear_most=high[1],
        matrix_weights=weights_of(tensors),
        copied=sum(path.stat().st_size for path in copied),
        manifest=_MANIFEST + _A_MATRIX * len(tensors.matrices),
        exact=exact,
        note=note,
    )


def _bounds(
    tensors: Tensors, spec: CompressSpec, allocation: AllocationSpec | None
) -> tuple[tuple[int, int], tuple[int, int], bool, str]:
    """Weight files and linear layers at least and at most, whether they are exact, and why not."""
    if allocation is not None:
        low = _of(tensors, least_spec(tensors, spec, allocation))
        budget = budget_bytes(tensors, allocation)
        around = low[0] - low[1]
        high = (budget, budget - around)
        if not allocation.file_bytes:
            high = (budget + around, budget)
        return low, high, False, "the budget is spent as far as its steps allow"
    if spec.basis_blocks > 1:
        own = _of(tensors, spec)
        told = f"{spec.basis_blocks} blocks share a basis; this is of one for each block"
        return own, own, False, told
    if spec.pairs != APART:
        own = _of(tensors, spec)
        return own, own, False, f"pairs are cut by {spec.pairs}; this is of as much in L R"
    if spec.ranks != "equal":
        equal = _of(tensors, spec)
        return equal, equal, False, f"ranks are shared out by {spec.ranks}; this is of equal ones"
    low = _of(tensors, _at_ranks(tensors, spec, lambda _, __: 0))
    high = _of(tensors, _at_ranks(tensors, spec, _most))
    note = "" if low == high else "ranks are automatic: from none to the largest considered"
    return low, high, low == high, note


def _of(tensors: Tensors, spec: CompressSpec) -> tuple[int, int]:
    return weight_file_bytes(tensors, spec), linear_bytes(tensors, spec)


def _most(shape: tuple[int, int], solver: DecomposeSpec) -> int:
    quant = solver.quant.for_shape(*shape)[0]
    return most_automatic_rank(shape, solver.low_rank.factor_bits, quant.bits)


def _at_ranks(
    tensors: Tensors, spec: CompressSpec, rank: Callable[[tuple[int, int], DecomposeSpec], int]
) -> CompressSpec:
    """``spec`` with a number for every rank that is automatic."""
    matrices = dict(spec.matrices)
    for name, shape in linear_shapes(tensors).items():
        own = spec.for_matrix(name)
        if own.low_rank.rank_of(shape) == "auto":
            low_rank = dataclasses.replace(own.low_rank, rank=rank(shape, own))
            matrices[name] = MatrixSpec(own.quant, low_rank)
    return dataclasses.replace(spec, matrices=matrices)
