"""What of a model is not treated in the plain way, and how it is treated instead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lrc.linalg.precision import is_wide
from lrc.linalg.row_moment import rows_are_few
from lrc.models.base import Model
from lrc.models.tensors import EMBEDDING, HEAD, Matrix, linear_of, weight_of
from lrc.spec import CompressSpec
from lrc_kernels.hadamard_order import hadamard_block


@dataclass(frozen=True)
class Special:
    """``count`` matrices or tables of one ``shape`` that are treated in a way of their own.

    ``first`` is the name of the first of them, ``what`` says why and how.
    """

    shape: tuple[int, ...]
    count: int
    first: str
    what: str


def special_shapes(model: Model, spec: CompressSpec, tokens: int) -> tuple[Special, ...]:
    """Everything of the kind, from shapes alone, where a calibration has so many tokens."""
    found: dict[tuple[tuple[int, ...], str], list[str]] = {}
    for name, matrix in model.tensors.matrices.items():
        shape = model.tensors.shape(weight_of(name))
        for what in _of_matrix(name, matrix, shape, spec, tokens):
            found.setdefault((shape, what), []).append(name)
    tables = model.tensors.tables
    shape = model.tensors.shape(tables[EMBEDDING])
    if HEAD not in tables:
        what = f"the head is tied to it: stored once, at {spec.table_bits()[0]} bits"
        found[shape, what] = [linear_of(tables[EMBEDDING])]
    return tuple(
        Special(shape, len(names), names[0], what) for (shape, what), names in found.items()
    )


def _of_matrix(
    name: str, matrix: Matrix, shape: tuple[int, ...], spec: CompressSpec, tokens: int
) -> Iterator[str]:
    """What is special about one matrix."""
    m, n = shape[0], shape[1]
    own = spec.for_matrix(name)
    if own.stays_dense:
        yield "stays dense, in 16 bits"
        return
    if own.recipe != "low-rank":
        yield from own.quant.for_shape(m, n)[1]
    if own.rotation == "hadamard":
        for side, size in (("output", m), ("input", n)):
            block = hadamard_block(size)[0]
            if block != size:
                yield f"{side} side {size} is rotated in blocks of {block}"
    rank = own.low_rank.rank
    if own.recipe == "caldera" and isinstance(rank, int) and rank > min(m, n):
        yield f"rank {rank} exceeds the smaller side: {min(m, n)}"
    if is_of_expert(matrix):
        yield "of an expert: fitted to the tokens routed to it, and to others where these are few"
        return
    if rows_are_few(tokens, n):
        yield f"{tokens} tokens are few for {n} inputs: their rows are kept, not their moment"
    elif tokens < n:
        yield f"fewer tokens ({tokens}) than inputs ({n}): the moment is shrunk to its diagonal"
    if is_wide(n):
        yield f"{n} inputs: moments are worked on in float32"


def is_of_expert(matrix: Matrix) -> bool:
    """Whether its site is one of many that are alike: these have a number behind a point."""
    return matrix.site.rpartition(".")[2].isdecimal()
