"""Trellises under LDLQ, polish and packing: many rows are coded together here."""

from __future__ import annotations

import numpy as np
import pytest
from budget import few
from hypothesis import given
from hypothesis import strategies as st
from packed_cases import codes_of

from lrc.errors import SpecError
from lrc.linalg.factor import block_ldl, coarser_feedback, factor, feedback_matrix
from lrc.quant import get_quantizer
from lrc.quant.ldlq import Grid, ldlq, polish, round_to_nearest
from lrc.quant.trellis import Trellis
from lrc.solvers.api import decompose
from lrc.spec import DecomposeSpec, LowRankSpec, QuantSpec
from lrc.testing.laws import (
    check_codes_match,
    check_decomposition,
    check_error_identity,
    loss_rounding,
    quadratic_loss,
)
from lrc.testing.strategies import seeds
from lrc.testing.tolerance import assert_within, factor_bound

F32 = np.float32
SHAPES = [(16, 20), (48, 5), (64, 9), (128, 3), (256, 2)]


def problem(seed, m, n):
    rng = np.random.default_rng(seed)
    V = np.linalg.qr(rng.standard_normal((n, n)))[0]
    H = (V * np.geomspace(1, 1e-2, n)) @ V.T
    return rng.standard_normal((m, n)).astype(F32), 0.5 * (H + H.T)


def grid_for(m, bits=2, state_bits=8):
    quantizer = get_quantizer(QuantSpec(f"trellis{state_bits}", bits), m)
    return Grid(quantizer, np.full((1, 1), 1 / quantizer.input_scale, F32))


@pytest.mark.parametrize(("m", "rows"), [(16, 16), (48, 16), (64, 64), (192, 64), (1536, 256)])
def test_tiles_are_as_tall_as_the_rows_allow(m, rows):
    quantizer = get_quantizer(QuantSpec("trellis12", 3), m)
    assert quantizer == Trellis(3, 12, rows)
    assert quantizer.block_rows * quantizer.block_size == 256
    assert quantizer.id == "trellis12"


@pytest.mark.parametrize(("m", "n"), SHAPES)
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_feedback_rounding_keeps_its_laws(m, n, bits):
    W, H = problem(7401 + n, m, n)
    grid = grid_for(m, bits)
    b = grid.quantizer.block_size
    C = factor(H).cholesky
    found = ldlq(W, feedback_matrix(C, b), grid)
    check_codes_match(grid, found)
    check_error_identity(W, found.values, H, block_ldl(C, b))
    H32, previous = H.astype(F32), quadratic_loss(W - found.values, H)
    slack = loss_rounding(W - found.values, W, H)
    for sweep in range(3):
        found = polish(W, found, H32, grid, 1, dither=0.1 * (sweep == 1), seed=sweep)
        loss = quadratic_loss(W - found.values, H)
        assert_within(loss, previous + slack, "loss after a sweep")
        check_codes_match(grid, found)
        previous = loss


def test_feedback_and_polish_pay():
    W, H = problem(7411, 64, 64)
    grid = grid_for(64)
    fed = ldlq(W, feedback_matrix(factor(H).cholesky, 4), grid)
    losses = [
        quadratic_loss(W - r.values, H)
        for r in (round_to_nearest(W, grid), fed, polish(W, fed, H.astype(F32), grid, 4))
    ]
    assert losses[1] < 0.8 * losses[0]
    assert losses[2] < 0.98 * losses[1]


@given(seed=seeds(), n=st.integers(1, 24), wanted=st.sampled_from([1, 2, 4, 8, 16]))
def test_coarser_feedback_is_that_of_the_larger_block(seed, n, wanted):
    _, H = problem(seed, 1, n)
    C = factor(H).cholesky
    expected = feedback_matrix(C, wanted)
    for block in (b for b in (1, 2, 4, 8, 16) if b <= wanted):
        found = coarser_feedback(feedback_matrix(C, block), block, wanted)
        scale = np.linalg.norm(expected) + np.sqrt(n)
        bound = factor_bound(n, F32, solve=True, cond=100.0)
        assert_within(np.linalg.norm(found - expected), bound * scale, "feedback")


@few(10)
@given(
    seed=seeds(),
    shape=st.sampled_from([(16, 7), (48, 16), (64, 6), (192, 5)]),
    bits=st.sampled_from([2, 3, 4]),
    recipe=st.sampled_from(["caldera", "ldlq", "round-to-nearest"]),
    rotation=st.sampled_from(["none", "hadamard"]),
)
def test_decompositions_with_a_trellis(seed, shape, bits, recipe, rotation):
    W, H = problem(seed, *shape)
    spec = DecomposeSpec(
        recipe=recipe, quant=QuantSpec("trellis8", bits), low_rank=LowRankSpec(2),
        rotation=rotation, iterations=1, inner_iterations=1,
    )  # fmt: skip
    found = decompose(W, H, spec, threads=1)
    check_decomposition(W, H, spec, found)
    codes = codes_of(found.matrix)
    assert codes.codebook == "trellis8"
    twice = decompose(W, H, spec, threads=2)
    np.testing.assert_array_equal(codes.planes[0], codes_of(twice.matrix).planes[0])


def test_more_bits_and_larger_states_lose_less():
    W, H = problem(7421, 64, 32)

    def error(codebook, bits):
        spec = DecomposeSpec(quant=QuantSpec(codebook, bits), low_rank=LowRankSpec(0))
        return decompose(W, H, spec, threads=1).relative_error

    assert error("trellis8", 2) > error("trellis12", 2) > error("trellis12", 3)
    assert error("trellis12", 3) > error("trellis12", 4)
    assert error("e8p", 2) > 1.05 * error("trellis12", 2)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_rows_that_do_not_fit_get_the_lattice_and_a_note(bits):
    W, H = problem(7423, 40, 12)
    spec = DecomposeSpec(quant=QuantSpec("trellis12", bits), low_rank=LowRankSpec(0))
    found = decompose(W, H, spec, threads=1)
    assert codes_of(found.matrix).codebook == QuantSpec.plain(bits).codebook
    assert any("needs rows in multiples of 16, not 40" in note for note in found.notes)


@pytest.mark.parametrize(("bits", "group"), [(5, 0), (1, 0), (2, 64)])
def test_what_a_trellis_cannot_do_is_refused(bits, group):
    with pytest.raises(SpecError):
        QuantSpec("trellis12", bits, group)
