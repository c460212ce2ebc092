"""Bits a weight that a model gets unless told."""

from __future__ import annotations

import math

from lrc.models.base import Model
from lrc.models.tensors import weight_of
from lrc.spec import CompressSpec, DecomposeSpec, QuantSpec

#: Fewest weights in a model's matrices, and their bits. One of 135M weights answers sensibly at 4.
#: At 2 bits a 7B model's perplexity is a third higher (QTIP without tuning, arXiv 2406.11235).
WIDTHS = ((10**9, 3), (0, 4))


def default_bits(model: Model) -> int:
    """The width at which a model of this size still answers sensibly."""
    shapes = (model.tensors.shape(weight_of(name)) for name in model.tensors.matrices)
    weights = sum(math.prod(shape) for shape in shapes)
    return next(bits for least, bits in WIDTHS if weights >= least)


def default_spec(model: Model) -> CompressSpec:
    """Every parameter at its default, at that width."""
    quant = QuantSpec.for_bits(default_bits(model))
    return CompressSpec(decompose=DecomposeSpec(quant=quant))
