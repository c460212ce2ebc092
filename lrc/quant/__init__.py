"""Encoding halves of the codebooks, and the drivers that round a matrix with them."""

from __future__ import annotations

import importlib
from functools import cache

from lrc.codebooks import CODEBOOKS, describe
from lrc.errors import SpecError
from lrc.quant.base import Codes, Quantizer
from lrc.spec import QuantSpec

__all__ = ["Codes", "Quantizer", "get_quantizer", "quantizer"]


def get_quantizer(spec: QuantSpec, rows: int = 32) -> Quantizer:
    """Quantizer of ``spec.codebook`` at ``spec.bits`` for a matrix of ``rows`` rows."""
    return quantizer(spec.codebook, spec.bits, rows)


@cache
def quantizer(name: str, bits: int, rows: int = 32) -> Quantizer:
    """Encoding half of the codebook ``name`` at ``bits`` for a matrix of ``rows`` rows.

    Raises
    ------
    SpecError
        If there is none, or it does not fit the rows.
    """
    row = CODEBOOKS.get(name)
    if row is None or bits not in row.bits:
        raise SpecError(f"no codebook {name!r} of {bits} bits; known: {describe()}")
    module = importlib.import_module(f"{__name__}.{row.module}")
    made: Quantizer = module.quantizer(name, bits, rows)
    return made
