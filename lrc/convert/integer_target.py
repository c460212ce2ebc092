"""Parameters of a compression whose result is to become packed integers of another program."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from lrc.codebooks import CODEBOOKS, GROUPED
from lrc.codebooks.grouped import group_size
from lrc.errors import SpecError
from lrc.models.opened import open_original
from lrc.models.tensors import weight_of
from lrc.spec import CompressSpec, LowRankSpec, QuantSpec

#: Tables stay in 16 bits: neither format codes embeddings.
_TABLE_BITS = 16


def for_integers(
    model_dir: Path | str, spec: CompressSpec, target: str, *, group: int = 0, rank: bool = False
) -> CompressSpec:
    """``spec`` with integers in groups, no rotation, and tables in 16 bits.

    Parameters
    ----------
    model_dir
        The dense model: groups are as large as all of its rows allow.
    spec
        Its bits count, its codebook does not.
    target
        What the result is for, in errors.
    group
        Weights of a group; 0: as many as fit all rows.
    rank
        Whether a rank was asked for; else L R is left out, for it would need an adapter.

    Raises
    ------
    SpecError
        There is no such width, or no such group in some row.
    """
    solve = spec.decompose
    quant = QuantSpec(_codebook(model_dir, solve.quant.bits, group, target), solve.quant.bits)
    low_rank = solve.low_rank if rank else LowRankSpec(rank=0)
    solve = dataclasses.replace(solve, quant=quant, low_rank=low_rank, rotation="none")
    return dataclasses.replace(spec, decompose=solve, embed_bits=_TABLE_BITS, head_bits=_TABLE_BITS)


def _codebook(model_dir: Path | str, bits: int, group: int, target: str) -> str:
    """The codebook of the largest groups that all rows have, or of those asked for."""
    family = CODEBOOKS[GROUPED].family
    own = [name for name, row in CODEBOOKS.items() if row.family == family]
    widths = CODEBOOKS[GROUPED].bits
    if bits not in widths:
        known = ", ".join(map(str, widths))
        raise SpecError(f"--for {target} has no codes of {bits} bits; use one of {known}")
    sizes = {name: group_size(name) for name in own}
    if group:
        own = [name for name in own if sizes[name] == group]
        if not own:
            known = ", ".join(str(sizes[name]) for name in sizes)
            raise SpecError(f"--for {target} has groups of {known}, not of {group}")
    model, _ = open_original(model_dir)
    shapes = {n: model.tensors.shape(weight_of(n)) for n in model.tensors.matrices}
    misfit = ""
    for name in own:
        misfit = next((n for n, (_, k) in shapes.items() if k % sizes[name]), "")
        if not misfit:
            return name
    raise SpecError(
        f"{misfit} has rows of {shapes[misfit][1]} weights, which are no whole number of groups of "
        f"{sizes[own[-1]]}: --for {target} cannot have this model"
    )
