"""Codes that another program may have as they are: nothing rotated, no gain, at most L R beside."""

from __future__ import annotations

import dataclasses

import numpy as np

from lrc.codebooks import CODEBOOKS
from lrc.models.source import Array, Weight, WeightSource
from lrc.parts.codes import Codes
from lrc.parts.low_rank import LowRank
from lrc.parts.matrix import PackedMatrix


def plain_codes(matrix: Weight | Array, like: str) -> Codes | None:
    """The codes of a matrix, where they are of the family of the codebook ``like`` and plain.

    None of one that is dense, rotated, or more than such codes and factors L R beside them.
    """
    if not isinstance(matrix, PackedMatrix) or matrix.rotation != "none" or matrix.gain != 1:
        return None
    codes = [part for part in matrix.parts if isinstance(part, Codes)]
    others = [part for part in matrix.parts if not isinstance(part, Codes | LowRank)]
    if len(codes) != 1 or others or not np.all(codes[0].scales == 1):
        return None
    same = CODEBOOKS[codes[0].codebook].family == CODEBOOKS[like].family
    return codes[0] if same else None


def has_low_rank(matrix: Weight | Array) -> bool:
    """Whether a matrix has factors L R."""
    return isinstance(matrix, PackedMatrix) and any(isinstance(p, LowRank) for p in matrix.parts)


def dense_codes(source: WeightSource, name: str) -> Array:
    """The tensor ``name`` as float32, without L R where it has them."""
    matrix = source.linear(name) if len(source.shape(name)) == 2 else None
    if not isinstance(matrix, PackedMatrix) or not has_low_rank(matrix):
        return source.dense(name)
    rest = tuple(part for part in matrix.parts if not isinstance(part, LowRank))
    return dataclasses.replace(matrix, parts=rest).to_dense()
