"""Codebooks behind one contract, and the drivers that round a matrix with them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lrc.errors import SpecError
from lrc.quant.base import Codes, Quantizer
from lrc.quant.e8p import E8P, E8PResidual3, E8PResidual4
from lrc.quant.scalar import LloydMax, Uniform
from lrc.quant.trellis import Trellis, trellis_for
from lrc.spec import TRELLISES, QuantSpec

__all__ = ["QUANTIZERS", "Codes", "Quantizer", "Trellis", "get_quantizer"]

#: Every quantizer by (codebook, bits); the law tests run over this table.
QUANTIZERS: dict[tuple[str, int], Callable[[], Quantizer]] = {
    ("e8p", 2): E8P,
    ("e8p-rvq3", 3): E8PResidual3,
    ("e8p-rvq4", 4): E8PResidual4,
    **{("uniform", bits): partial(Uniform, bits) for bits in range(2, 9)},
    **{("lloyd-max", bits): partial(LloydMax, bits) for bits in range(2, 9)},
}


def get_quantizer(spec: QuantSpec, rows: int = 16) -> Quantizer:
    """Quantizer of ``spec.codebook`` at ``spec.bits`` for a matrix of ``rows`` rows.

    Raises
    ------
    SpecError
        If there is none.
    """
    if spec.codebook in TRELLISES:
        return trellis_for(spec.codebook, spec.bits, rows)
    make = QUANTIZERS.get((spec.codebook, spec.bits))
    if make is None:
        raise SpecError(f"no codebook {spec.codebook!r} of {spec.bits} bits")
    return make()
