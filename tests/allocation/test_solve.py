"""The knapsack against brute force, and its laws."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from budget import few
from hypothesis import given
from hypothesis import strategies as st

from lrc.allocation import solve as module
from lrc.allocation.solve import Choice, lower_hull, solve, useful
from lrc.errors import SpecError

choices = st.lists(
    st.builds(Choice, st.integers(0, 40), st.floats(0, 10, allow_subnormal=False)),
    min_size=1,
    max_size=5,
)
problems = st.lists(choices, min_size=1, max_size=5).map(
    lambda each: {f"item {i}": options for i, options in enumerate(each)}
)


def cost(items: dict[str, list[Choice]], picks: dict[str, int]) -> int:
    return sum(items[name][pick].cost for name, pick in picks.items())


def loss(items: dict[str, list[Choice]], picks: dict[str, int]) -> float:
    return sum(items[name][pick].loss for name, pick in picks.items())


def least(items: dict[str, list[Choice]]) -> int:
    return sum(min(c.cost for c in options) for options in items.values())


def brute(items: dict[str, list[Choice]], budget: int) -> float:
    answers = itertools.product(*items.values())
    return min(sum(c.loss for c in a) for a in answers if sum(c.cost for c in a) <= budget)


@given(problems, st.integers(0, 160))
def test_optimal_and_within_the_budget(items: dict[str, list[Choice]], extra: int) -> None:
    budget = least(items) + extra
    picks = solve(items, budget)
    assert set(picks) == set(items)
    assert cost(items, picks) <= budget
    assert loss(items, picks) == pytest.approx(brute(items, budget), abs=1e-9)


@given(problems, st.integers(0, 80), st.integers(0, 80))
def test_more_budget_never_hurts(items: dict[str, list[Choice]], first: int, more: int) -> None:
    budget = least(items) + first
    small, large = solve(items, budget), solve(items, budget + more)
    assert loss(items, large) <= loss(items, small) + 1e-9


@given(problems, st.integers(0, 80), st.randoms(use_true_random=False))
def test_order_does_not_matter(items: dict[str, list[Choice]], extra: int, random: object) -> None:
    rng = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]
    budget = least(items) + extra
    names = rng.permutation(sorted(items))
    turned = {str(n): [items[n][i] for i in rng.permutation(len(items[n]))] for n in names}
    ours, theirs = solve(items, budget), solve(turned, budget)
    assert {n: items[n][i] for n, i in ours.items()} == {n: turned[n][i] for n, i in theirs.items()}


@given(problems)
def test_too_small_a_budget_names_the_least(items: dict[str, list[Choice]]) -> None:
    with pytest.raises(SpecError, match=f"least possible is {least(items)}"):
        solve(items, least(items) - 1)


@given(choices)
def test_hull_is_convex_and_below_everything(options: list[Choice]) -> None:
    hull = [options[i] for i in lower_hull(options)]
    assert set(hull) <= {options[i] for i in useful(options)}
    corners = np.array(hull, float)
    if len(hull) > 1:
        slopes = np.diff(corners[:, 1]) / np.diff(corners[:, 0])
        assert (np.diff(slopes) > 0).all()
    for option in options:
        if option.cost >= hull[0].cost:
            assert option.loss >= np.interp(option.cost, *corners.T) - 1e-9


def large(seed: int, count: int) -> dict[str, list[Choice]]:
    """Losses that fall fourfold a bit, as of ``count`` matrices."""
    rng = np.random.default_rng(seed)
    sizes = rng.choice([41472, 13824, 110592], count)
    weights = rng.lognormal(0, 1.5, count)
    return {
        f"m{i}": [Choice(int(s) * b, float(w * 4.0**-b)) for b in (2, 3, 4)]
        for i, (s, w) in enumerate(zip(sizes, weights, strict=True))
    }


@few(10)
@given(st.integers(2, 2**31), st.floats(0.0, 1.0))
def test_a_model_is_solved_to_its_bound(seed: int, share: float) -> None:
    items = large(seed, 210)
    budget = int(least(items) * (1 + share))
    picks = solve(items, budget)
    assert cost(items, picks) <= budget
    # No single change that still fits lowers the loss, and what is left unspent is little.
    left = budget - cost(items, picks)
    for name, pick in picks.items():
        for option in items[name]:
            if option.cost - items[name][pick].cost <= left:
                assert option.loss >= items[name][pick].loss


def test_few_states_still_give_a_good_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    items = large(917, 40)
    budget = int(least(items) * 1.3)
    exact = loss(items, solve(items, budget))
    monkeypatch.setattr(module, "MOST_STATES", 8)
    picks = solve(items, budget)
    assert cost(items, picks) <= budget
    assert loss(items, picks) <= 1.02 * exact
