"""A rank for every matrix, where L R alone has a part of the numbers of them all."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.allocation.rank_rules import RULES, Curve, Rule
from lrc.allocation.spectra import spectra, weight_values
from lrc.base.progress import SILENT, Progress
from lrc.calibrate.examples import Examples
from lrc.models.base import Model
from lrc.models.tensors import weight_of
from lrc.spec import CompressSpec, MatrixSpec


def with_ranks(
    model: Model,
    spec: CompressSpec,
    examples: Examples,
    threads: int,
    progress: Progress = SILENT,
) -> CompressSpec:
    """``spec`` with a rank for every matrix that it does not name, by its ``ranks``.

    Notes
    -----
    Cost: that of :func:`lrc.allocation.spectra.spectra`, or of singular values of the weights.
    """
    rule = RULES[spec.ranks]
    curves = [c for c in _curves(model, rule, examples, threads, progress)
              if c.name not in spec.matrices]  # fmt: skip
    chosen = rule.chosen(curves, spec.decompose.low_rank.keep)
    return dataclasses.replace(spec, matrices={**spec.matrices, **_specs(chosen, spec, rule)})


def _specs(
    chosen: Mapping[str, int | None], spec: CompressSpec, rule: Rule
) -> dict[str, MatrixSpec]:
    """What the spec says of each matrix; one that stays has all of its numbers."""
    solver = spec.decompose
    found = {}
    for name, rank in chosen.items():
        size: dict[str, Any] = {"keep": 1.0} if rank is None else {"rank": rank, "keep": 0.0}
        own = dataclasses.replace(solver.low_rank, **size)
        found[name] = MatrixSpec(solver.quant, own, f"{rule.says}, at {solver.low_rank.keep:g}")
    return found


def _curves(
    model: Model, rule: Rule, examples: Examples, threads: int, progress: Progress
) -> list[Curve]:
    """Of every matrix, what the rule looks at."""
    values: dict[str, NDArray[np.float64]] = {}
    if rule.looks_at == "weights":
        values = weight_values(model, threads, progress)
    elif rule.looks_at == "outputs":
        found_of = spectra(model, examples, threads, progress, outputs_alone=True)
        values = {of.name: of.outputs for of in found_of}
    tokens = sum(chunk.size for chunk in examples.inputs[-1])
    found = []
    for name, matrix in model.tensors.matrices.items():
        m, n = model.tensors.shape(weight_of(name))
        kind = re.sub(r"(?<=\.)\d+(?=\.)", "*", matrix.key)
        own = values.get(name, np.zeros(0))
        found.append(Curve(name, matrix.block, kind, (m, n), own, tokens))
    return found
