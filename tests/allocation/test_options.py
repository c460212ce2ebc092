"""What an option is expected to leave: rounding of factors costs what it costs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from lrc.allocation.options import FACTOR_LOSS, error_ratio, matrix_options
from lrc.codebooks.levels import levels
from lrc.spec import DecomposeSpec, LowRankSpec, QuantSpec

CURVES = {2: {0: 0.1, 8: 0.04}, 3: {0: 0.03, 8: 0.02}, 4: {0: 0.008, 8: 0.006}}


@pytest.mark.parametrize("bits", FACTOR_LOSS)
def test_the_loss_of_a_factor_is_that_of_its_levels_on_a_gaussian_source(bits: int) -> None:
    values = levels("lloyd-max", bits).astype(float)
    edges = np.concatenate([[-np.inf], (values[1:] + values[:-1]) / 2, [np.inf]])
    density = np.exp(-np.square(edges) / 2) / np.sqrt(2 * np.pi)
    inner = np.where(np.isfinite(edges), edges, 0.0) * density
    mass, first = np.diff(ndtr(edges)), density[:-1] - density[1:]
    second = mass + inner[:-1] - inner[1:]
    error = (second - 2 * values * first + values**2 * mass).sum()
    assert FACTOR_LOSS[bits] == pytest.approx(error, rel=0.05)


@pytest.mark.parametrize("codebook", ["e8p", "trellis12"])
@pytest.mark.parametrize("factor_bits", [*FACTOR_LOSS, 16])
def test_rounded_factors_give_back_a_share_of_what_they_captured(
    codebook: str, factor_bits: int
) -> None:
    solver = DecomposeSpec(quant=QuantSpec(codebook, 2), low_rank=LowRankSpec(8, factor_bits))
    options = matrix_options("x", (512, 512), CURVES, solver)
    assert [option.quant.bits for option in options] == [2, 3, 4]
    for option in options:
        bare, left = (CURVES[option.quant.bits][rank] for rank in (0, 8))
        kept = (bare - left) * (1 - FACTOR_LOSS.get(factor_bits, 0.0))
        share = error_ratio(option.quant)
        assert option.error == pytest.approx(share * (bare - kept), rel=1e-12)


def test_coarser_factors_cost_less_and_leave_more() -> None:
    solver = DecomposeSpec(quant=QuantSpec("e8p", 2))
    known = {2: {0: 0.1, 8: 0.01, 16: 0.01, 32: 0.01, 64: 0.01}}
    chosen = [o for o in matrix_options("x", (512, 512), known, solver) if o.low_rank.rank]
    assert [option.low_rank.factor_bits for option in chosen] == [3, 4, 6]


@pytest.mark.parametrize(
    ("quant", "ratio"),
    [
        (QuantSpec("e8p", 2), 1.0),
        (QuantSpec("trellis12", 2), 0.0722 / 0.0914),
        (QuantSpec("trellis8", 4), 0.0050 / 0.0083),
    ],
    ids=str,
)
def test_errors_are_relative_to_the_lattice_that_is_surveyed(
    quant: QuantSpec, ratio: float
) -> None:
    assert error_ratio(quant) == pytest.approx(ratio)
