"""Distillation of a block: the slope of its loss, and what learning must and must not do."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_llama import tiny_model

from lrc.errors import SpecError
from lrc.nn.ops import STREAM, Pass
from lrc.nn.packed import PackedLinear
from lrc.refine.distil import Lesson, changed, distil, factors, mean_loss
from lrc.refine.features import feature_loss
from lrc.refine.program import forward
from lrc.refine.rules import with_opened
from lrc.solvers.api import decompose
from lrc.spec import (
    CalibrationSpec,
    CompressSpec,
    DecomposeSpec,
    DistilSpec,
    LowRankSpec,
    QuantSpec,
)
from lrc.testing.gradients import check_slope

F64 = np.float64
SPEC = DistilSpec(epochs=4, rate=0.01, held_out=4)
ALONE = DecomposeSpec("low-rank", low_rank=LowRankSpec(8, factor_bits=16), rotation="none")
OVER_CODES = DecomposeSpec(quant=QuantSpec("e8p"), low_rank=LowRankSpec(4), iterations=1)


@given(seed=st.integers(0, 10**6))
def test_the_gradient_of_the_loss_is_its_slope(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found, target, direction = rng.standard_normal((3, 5, 7))
    _, g = feature_loss(found, target)
    check_slope(
        lambda t: feature_loss(found + t * direction, target)[0], g, direction, 50.0, "features"
    )


def test_the_loss_is_what_the_paper_says() -> None:
    found, target = np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]])
    expected = 1.0 - np.log(1 / (1 + np.exp(-24 / 25)))
    assert feature_loss(found, target)[0] == pytest.approx(expected, rel=1e-12)
    assert feature_loss(found, found)[0] == pytest.approx(np.log1p(np.exp(-1.0)), rel=1e-12)
    zero = np.zeros((1, 2))
    assert np.isfinite(feature_loss(zero, target)[1]).all()
    assert feature_loss(zero, zero)[0] == pytest.approx(np.log(2.0))


def block_and_lessons(spec: DecomposeSpec, windows: int = 24):
    """A block of a tiny model, every matrix decomposed, and what the block itself gives."""
    block = tiny_model(num_hidden_layers=1, hidden_size=32).stacks[0].load_block(0)
    rng = np.random.default_rng(3)
    student = block.with_linears(
        {
            key: PackedLinear(decompose(linear.weight, None, spec, threads=1).matrix)
            for key, linear in block.linears.items()
        }
    )
    lessons = []
    for _ in range(windows):
        h = rng.standard_normal((1, 12, 32)).astype(np.float32)
        target = block(h, np.arange(12))
        noisy = h + np.float32(0.1) * rng.standard_normal(h.shape).astype(np.float32)
        lessons.append([Lesson({STREAM: noisy}, target), Lesson({STREAM: h}, target)])
    return with_opened(student.ops()), lessons


@pytest.mark.parametrize(
    ("spec", "rate"), [(ALONE, 0.01), (OVER_CODES, 0.003)], ids=["alone", "over-codes"]
)
def test_the_loss_on_what_was_held_out_falls(spec: DecomposeSpec, rate: float) -> None:
    ops, lessons = block_and_lessons(spec)
    start = factors(ops)
    found = distil(ops, start, lessons, dataclasses.replace(SPEC, rate=rate), seed=1)
    held = [lesson for step in lessons[::4] for lesson in step]
    assert found.before == pytest.approx(mean_loss(ops, held), rel=1e-5)
    assert found.after == mean_loss(changed(ops, found.arrays), held)
    least = np.log1p(np.exp(-1.0))  # what a block that gives the target itself leaves
    assert found.after - least < 0.99 * (found.before - least)


def test_factors_of_equal_length_have_the_same_product() -> None:
    ops, lessons = block_and_lessons(OVER_CODES, 1)
    values = lessons[0][0].values
    before, after = (
        forward(each, values, Pass(np.arange(12)))[STREAM]
        for each in (ops, changed(ops, factors(ops)))
    )
    np.testing.assert_allclose(after, before, rtol=1e-5, atol=1e-5)
    for named in factors(ops).values():
        for name in (name for name in named if name.endswith("left")):
            left, right = named[name], named[name.replace("left", "right")]
            np.testing.assert_allclose(
                np.linalg.norm(left, axis=1), np.linalg.norm(right, axis=1), rtol=1e-4
            )


def test_threads_and_codes_change_nothing_and_the_seed_does() -> None:
    ops, lessons = block_and_lessons(OVER_CODES)
    start = factors(ops)
    one, two, other = (
        distil(ops, start, lessons, SPEC, seed=seed, threads=threads)
        for seed, threads in ((1, 1), (1, 2), (2, 1))
    )
    assert one.after == two.after
    for place, named in one.arrays.items():
        assert set(named) == set(start[place])
        for name, array in named.items():
            assert name.endswith((".left", ".right"))
            np.testing.assert_array_equal(array, two.arrays[place][name])
    assert other.after != one.after


def test_a_rate_that_ruins_the_block_leaves_it_as_it_was() -> None:
    ops, lessons = block_and_lessons(ALONE)
    start = factors(ops)
    found = distil(ops, start, lessons, dataclasses.replace(SPEC, rate=0.9, patience=1), seed=1)
    assert found.after == found.before
    assert found.epochs == 1
    for place, named in found.arrays.items():
        for name, array in named.items():
            np.testing.assert_array_equal(array, start[place][name])


def test_distillation_takes_both_streams() -> None:
    with pytest.raises(SpecError, match="distillation takes both streams"):
        CompressSpec(distil=SPEC, calibration=CalibrationSpec(streams="original"))
    for bad in ({"epochs": -1}, {"rate": 0.0}, {"held_out": 1}, {"windows": 0}, {"patience": 0}):
        with pytest.raises(SpecError, match=next(iter(bad))):
            DistilSpec(**bad)
