"""Operations of a mixture of experts, held to a loop over tokens."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from lrc.nn.linear import DenseLinear
from lrc.nn.ops import STREAM, Gate, Multiply, Pass, run
from lrc.nn.routing import Combine, Dispatch, Route, SigmoidGate
from lrc.testing.tolerance import assert_within, relative_difference

HIDDEN, WIDE = 12, 8


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max())
    return e / e.sum()


def reference_shares(x: np.ndarray, weight: np.ndarray, top: int, *, first: bool) -> np.ndarray:
    """One token: the softmax of the largest logits alone, or of all and the largest of it."""
    logits = x.astype(np.float64) @ weight.T
    chosen = np.argsort(-logits, kind="stable")[:top]
    shares = np.zeros(len(weight))
    shares[chosen] = softmax(logits[chosen]) if first else softmax(logits)[chosen]
    return shares


@given(st.integers(1, 9), st.data(), st.booleans(), st.integers(0, 99))
def test_shares_are_those_of_every_token_alone(
    experts: int, data: st.DataObject, normalised: bool, seed: int
) -> None:
    top = data.draw(st.integers(1, experts))
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 3, HIDDEN)).astype(np.float32)
    weight = rng.standard_normal((experts, HIDDEN)).astype(np.float32)
    route = Route(weight, "x", "routing", top, normalised)
    found = run((route,), {"x": x}, Pass(np.arange(3)))["routing"]
    assert found.dtype == np.float32
    assert (np.count_nonzero(found, axis=-1) <= top).all()
    for token, shares in zip(x.reshape(-1, HIDDEN), found.reshape(-1, experts), strict=True):
        expected = reference_shares(token, weight, top, first=normalised)
        np.testing.assert_allclose(shares, expected, atol=1e-5)


def test_of_equal_shares_the_first_counts() -> None:
    route = Route(np.ones((4, HIDDEN), np.float32), "x", "routing", 2, normalised=True)
    found = run((route,), {"x": np.ones((1, 1, HIDDEN), np.float32)}, Pass(np.arange(1)))
    assert found["routing"].tolist() == [[[0.5, 0.5, 0, 0]]]


def test_large_logits_are_finite() -> None:
    weight = np.linspace(-1, 1, 3 * HIDDEN, dtype=np.float32).reshape(3, HIDDEN) * 1e6
    route = Route(weight, "x", "routing", 2, normalised=False)
    with np.errstate(all="raise", under="ignore"):
        found = run((route,), {"x": np.ones((1, 1, HIDDEN), np.float32)}, Pass(np.arange(1)))
    assert found["routing"].tolist() == [[[0, 0, 1]]]


def mixture(experts: int, seed: int) -> list[tuple[Dispatch, tuple[DenseLinear, ...]]]:
    rng = np.random.default_rng(seed)

    def linear(m: int, n: int) -> DenseLinear:
        return DenseLinear(rng.standard_normal((m, n)).astype(np.float32))

    return [
        (
            Dispatch(e, "x", "routing", "routed"),
            (linear(WIDE, HIDDEN), linear(WIDE, HIDDEN), linear(HIDDEN, WIDE)),
        )
        for e in range(experts)
    ]


def ops_of(parts: list[tuple[Dispatch, tuple[DenseLinear, ...]]]) -> list:
    return [
        op
        for dispatch, (gate, up, down) in parts
        for op in (
            dispatch,
            Multiply((gate, up), "routed", ("gate", "up"), dispatch),
            Gate("gate", "up"),
            Multiply((down,), "gate", ("y",), dispatch),
            Combine("y", dispatch),
        )
    ]


def given_values(experts: int, seed: int, dead: tuple[int, ...] = ()) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((2, 5, HIDDEN)).astype(np.float32)
    shares = rng.uniform(0, 1, (2, 5, experts)).astype(np.float32)
    shares[shares < 0.6] = 0
    shares[..., list(dead)] = 0
    return {"x": x, "routing": shares, STREAM: rng.standard_normal(x.shape).astype(np.float32)}


@pytest.mark.parametrize("every", [0, 1, 2, 7])
@pytest.mark.parametrize("dead", [(), (1,), (0, 1, 2, 3)])
def test_experts_add_their_share_to_their_tokens(every: int, dead: tuple[int, ...]) -> None:
    """Whatever else they see, and where they see nothing."""
    parts, values = mixture(4, 3), given_values(4, 5, dead)
    before = {name: value.copy() for name, value in values.items()}
    found = run(ops_of(parts), values, Pass(np.arange(5), every=every))
    expected = values[STREAM].astype(np.float64)
    for at in np.ndindex(2, 5):
        x = values["x"][at].astype(np.float64)
        for e, (_, (gate, up, down)) in enumerate(parts):
            g = gate.weight @ x
            y = down.weight @ (g / (1 + np.exp(-g)) * (up.weight @ x))
            expected[at] += values["routing"][at][e] * y
    assert_within(relative_difference(found[STREAM], expected), 1e-5, "mixture")
    for name, value in values.items():
        np.testing.assert_array_equal(value, before[name])


def test_the_tokens_that_all_experts_see_are_spread_over_all() -> None:
    values = given_values(4, 5, dead=(0, 1, 2, 3))
    dispatch = Dispatch(0, "x", "routing", "routed")
    rows = {every: dispatch.rows(values, Pass(np.arange(5), every=every)) for every in (0, 1, 4)}
    assert rows[0].tolist() == []
    assert rows[1].tolist() == list(range(10))
    assert rows[4].tolist() == [2, 6]


def test_an_expert_without_tokens_is_not_looked_at() -> None:
    class Untouchable:
        shape = (WIDE, HIDDEN)

        def __call__(self, x: np.ndarray, execution: object = None) -> np.ndarray:
            raise AssertionError("its weights were read")

    values = given_values(4, 5, dead=(2,))
    dispatch = Dispatch(2, "x", "routing", "routed")
    layers = Multiply((Untouchable(), Untouchable()), "routed", ("gate", "up"), dispatch)
    found = run((dispatch, layers, Gate("gate", "up")), values, Pass(np.arange(5)))
    assert found["gate"].shape == (0, WIDE)


def test_a_pass_repeats_the_decisions_of_another() -> None:
    values = given_values(4, 5)
    route = Route(np.ones((4, HIDDEN), np.float32), "x", "routing", 2, normalised=True)
    at = Pass(np.arange(5), decided={"routing": values["routing"]})
    found = run((route,), {"x": values["x"]}, at)
    np.testing.assert_array_equal(found["routing"], values["routing"])


def test_a_sigmoid_scales_every_token() -> None:
    x = given_values(1, 9)["x"] * np.float32(100)
    weight = np.random.default_rng(2).standard_normal((1, HIDDEN)).astype(np.float32)
    found = run((SigmoidGate(weight, "x", "y"),), {"x": x, "y": x}, Pass(np.arange(5)))["y"]
    expected = x / (1 + np.exp(-x.astype(np.float64) @ weight.T.astype(np.float64)))
    assert_within(relative_difference(found, expected), 1e-5, "gate")
