"""Rules of operations that are not those of a layer, and the way programs are run."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from lrc.nn.layers import layer_norm, rms_norm
from lrc.nn.ops import STREAM, Add, AddPositions, Norm, Op, Pass, Rotate, Scale, SoftCap, Split, run
from lrc.nn.rope import Rope, apply_rope, rope_tables

AT = Pass(np.arange(3, 8))


def normal(*shape: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@given(st.integers(1, 4), st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_a_split_gives_back_what_was_put_together(groups: int, widths: list[int]) -> None:
    parts = [normal(2, 5, groups, width, seed=width) for width in widths]
    whole = np.concatenate(parts, axis=-1).reshape(2, 5, -1)
    names = tuple(f"part {i}" for i in range(len(widths)))
    found = run([Split("x", names, tuple(widths), groups)], {"x": whole}, AT)
    for name, part in zip(names, parts, strict=True):
        np.testing.assert_array_equal(found[name], part.reshape(2, 5, -1))


def test_norms_of_stretches_are_those_of_each() -> None:
    x, weight, bias = normal(2, 5, 12), normal(4, seed=2), normal(4, seed=3)
    heads = x.reshape(2, 5, 3, 4)
    ops = [Norm(weight, "x", "rms", 1e-5), Norm(weight, "x", "layer", 1e-5, "layer", bias)]
    found = run(ops, {"x": x}, AT)
    np.testing.assert_array_equal(found["rms"], rms_norm(heads, weight, 1e-5).reshape(x.shape))
    expected = layer_norm(heads, weight, bias, 1e-5).reshape(x.shape)
    np.testing.assert_array_equal(found["layer"], expected)


def test_rotation_is_at_the_positions_of_the_pass() -> None:
    rope, x = Rope(8), normal(2, 5, 24)
    expected = apply_rope(x.reshape(2, 5, 3, 8), *rope_tables(rope, AT.positions))
    found = run([Rotate("x", rope)], {"x": x}, AT)["x"]
    np.testing.assert_array_equal(found, expected.reshape(x.shape))


def test_learned_positions_are_rows_of_the_table() -> None:
    table, h = normal(10, 6), normal(2, 5, 6, seed=2)
    found = run([AddPositions(table, 2)], {STREAM: h}, AT)[STREAM]
    np.testing.assert_array_equal(found, h + table[5:10])


@pytest.mark.parametrize(
    ("op", "expected"),
    [(Scale("x", 0.25), lambda x: x / 4), (SoftCap("x", 2.0), lambda x: 2 * np.tanh(x / 2)),
     (Add("y", "x"), lambda x: x + 1)],
)  # fmt: skip
def test_values_are_changed_by_their_formula_and_not_written_to(op: Op, expected: object) -> None:
    x, y = normal(2, 5, 6), np.ones((2, 5, 6), np.float32)
    kept = x.copy()
    found = run([op], {"x": x, "y": y}, AT)["x"]
    np.testing.assert_allclose(found, expected(kept), rtol=1e-6)  # type: ignore[operator]
    np.testing.assert_array_equal(x, kept)
