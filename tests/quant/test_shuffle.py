"""The encoding half of shuffle trellises: its error and its scale are those of the table."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtri

from lrc.codebooks import CODEBOOKS
from lrc.quant import quantizer
from lrc_kernels.shuffle_code import CODES

every_code = pytest.mark.parametrize("key", CODES, ids=str)


def error(key: tuple[int, int], rows: int, factor: float = 1.0) -> float:
    """Mean squared error on equally likely quantiles of N(0, 1), at ``factor`` times the scale."""
    bits, state_bits = key
    made = quantizer(f"shuffle{state_bits}", bits, rows)
    count = 40960
    order = np.random.default_rng(29).permutation(count)
    Z = ndtri((order + 0.5) / count).astype(np.float32).reshape(rows, -1)
    scale = np.float32(made.input_scale * factor)
    found = made.decode(made.encode(Z * scale)) / scale
    return float(np.square(found - Z, dtype=np.float64).mean())


@every_code
def test_budgets_know_the_error(key: tuple[int, int]) -> None:
    known = CODEBOOKS[f"shuffle{key[1]}"].gaussian_error[key[0]]
    assert error(key, 256) == pytest.approx(known, rel=0.03)


@every_code
@pytest.mark.parametrize("factor", [0.85, 1.15])
def test_input_scale_is_a_good_one(key: tuple[int, int], factor: float) -> None:
    assert error(key, 256) < error(key, 256, factor)


@every_code
def test_lower_tiles_are_as_good(key: tuple[int, int]) -> None:
    assert error(key, 32) == pytest.approx(error(key, 256), rel=0.03)
