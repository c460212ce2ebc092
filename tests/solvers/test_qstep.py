"""The Q half step: scales by their rule, and no step that raises the loss."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from budget import few
from codebook_cases import FEW, may_group
from hypothesis import given
from hypothesis import strategies as st

from lrc.quant import get_quantizer
from lrc.quant.ldlq import ldlq
from lrc.quant.scales import as_stored, group_scales, matrix_scale
from lrc.solvers.base import Problem
from lrc.solvers.qstep import (
    feedback_rounding,
    grid,
    nearest,
    polished,
    stored_scale,
)
from lrc.solvers.site import site_metric
from lrc.spec import DecomposeSpec, QuantSpec
from lrc.testing.laws import loss_rounding, quadratic_loss
from lrc.testing.strategies import problems
from lrc.testing.tolerance import assert_within, eps

F32 = np.float32
SPECS = st.builds(
    DecomposeSpec,
    quant=st.builds(
        lambda key, group: QuantSpec(*key, may_group(key[0], group)),
        st.sampled_from(FEW),
        st.sampled_from([0, 5]),
    ),
    rotation=st.sampled_from(["none", "hadamard"]),
    polish_sweeps=st.sampled_from([0, 2, 4]),
)


@st.composite
def units(draw, max_m=12, max_n=20):
    """A problem as a decomposer sees it: a target of unit RMS and its metric."""
    W, H = draw(problems(max_m, max_n))
    spec = draw(SPECS)
    block = get_quantizer(spec.quant).block_size
    metric = site_metric(
        H, rotation=spec.rotation, damping=spec.damping, block_size=block, seed=7501
    )
    size = np.sqrt(np.square(W, dtype=np.float64).mean())
    return Problem((W / F32(size or 1.0)).astype(F32), metric, spec)


def rounded_with(problem, scale):
    return ldlq(problem.target, problem.metric.feedback, grid(problem, scale))


@few(2)
@given(problem=units())
def test_without_a_fit_scales_stay_at_the_rule(problem):
    spec = dataclasses.replace(problem.spec, refit_scales=False)
    problem = dataclasses.replace(problem, spec=spec)
    T, metric = problem.target, problem.metric
    _, final = feedback_rounding(problem, T, metric.H, metric.feedback)
    np.testing.assert_array_equal(final, stored_scale(problem, T))


@few(2)
@given(problem=units())
def test_one_scale_a_matrix_only_when_rotated_and_without_groups(problem):
    quantizer, spec, T = get_quantizer(problem.spec.quant), problem.spec, problem.target
    found = stored_scale(problem, T)
    if spec.rotation == "hadamard" and not spec.quant.group_size:
        np.testing.assert_array_equal(found, matrix_scale(T, quantizer))
    else:
        np.testing.assert_array_equal(found, group_scales(T, quantizer, spec.quant.group_size))
    rounded, scale = nearest(problem)
    np.testing.assert_array_equal(scale, found)
    np.testing.assert_array_equal(
        rounded.values, grid(problem, found).round(T, slice(0, T.shape[1]))[1]
    )


@few(2)
@given(problem=units())
def test_polishing_with_fitted_scales_never_raises_the_loss(problem):
    T, H = problem.target, problem.metric.H
    scale = stored_scale(problem, T)
    start = rounded_with(problem, scale)
    before = start.values.copy()
    done, fitted = polished(problem, T, H, start, scale)
    slack = loss_rounding(T - start.values, T, H)
    limit = quadratic_loss(T - start.values, H) + slack
    assert_within(quadratic_loss(T - done.values, H), limit, "loss")
    np.testing.assert_array_equal(as_stored(fitted), fitted)
    wide = grid(problem, fitted)
    exact = wide.quantizer.decode(done.codes)[:, : T.shape[1]] * wide.scale
    # The refit multiplies values and scale alike: they may differ by the rounding of that.
    np.testing.assert_allclose(done.values, exact, rtol=4 * eps(F32))
    np.testing.assert_array_equal(start.values, before)
    both, other = feedback_rounding(problem, T, H, problem.metric.feedback)
    np.testing.assert_array_equal(both.values, done.values)
    np.testing.assert_array_equal(other, fitted)


def test_the_scale_is_refitted_in_closed_form():
    """Codes that fit perfectly but for their size get the size right."""
    rng = np.random.default_rng(7503)
    spec = DecomposeSpec(quant=QuantSpec("uniform", 8), polish_sweeps=2)
    metric = site_metric(np.eye(16), rotation="hadamard", damping=0.01, block_size=1, seed=7505)
    problem = Problem(rng.standard_normal((6, 16)).astype(F32), metric, spec)
    scale = np.full((1, 1), 0.0625, F32)
    start = rounded_with(problem, scale)
    target = F32(0.99) * start.values
    done, fitted = polished(problem, target, metric.H, start, scale)
    assert fitted[0, 0] == pytest.approx(0.99 * 0.0625, rel=2e-3)
    assert quadratic_loss(target - done.values, metric.H) < 0.05 * quadratic_loss(
        target - start.values, metric.H
    )
