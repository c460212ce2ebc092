"""The search: never over the budget, never worse, the same for the same seed."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lrc.allocation.evolve import Picks, evolve
from lrc.allocation.solve import Choice, solve


def items(seed: int, count: int) -> dict[str, list[Choice]]:
    rng = np.random.default_rng(seed)
    sizes, weights = rng.integers(5, 40, count), rng.lognormal(0, 1, count)
    return {
        f"m{i}": [Choice(int(s) * b, float(w * 4.0**-b)) for b in (2, 3, 4)]
        for i, (s, w) in enumerate(zip(sizes, weights, strict=True))
    }


def cost(choices: dict[str, list[Choice]], picks: Picks) -> int:
    return sum(choices[name][pick].cost for name, pick in picks.items())


@given(st.integers(2, 2**31), st.integers(1, 9), st.floats(0.0, 1.0), st.integers(0, 5))
def test_it_fits_and_never_gets_worse(seed: int, count: int, share: float, rounds: int) -> None:
    choices = items(seed, count)
    budget = int(cost(choices, dict.fromkeys(choices, 0)) * (1 + share))
    rng = np.random.default_rng(seed + 1)
    hidden = {name: rng.lognormal(0, 1) for name in choices}  # what the losses do not say
    judged: list[Picks] = []

    def judge(several: list[Picks]) -> list[float]:
        judged.extend(several)
        return [sum(hidden[n] * choices[n][p].loss for n, p in picks.items()) for picks in several]

    def run() -> object:
        return evolve(
            choices,
            solve(choices, budget),
            lambda picks: cost(choices, picks) <= budget,
            judge,
            generations=rounds,
            offspring=4,
            seed=seed,
        )

    found = run()
    assert found == run()
    assert cost(choices, found.picks) <= budget  # type: ignore[attr-defined]
    assert all(cost(choices, picks) <= budget for picks in judged)
    fitness = found.fitness  # type: ignore[attr-defined]
    assert len(fitness) == (rounds + 1 if rounds else 0)
    assert all(b <= a for a, b in itertools.pairwise(fitness))
    if rounds:
        assert fitness[-1] == judge([found.picks])[0]  # type: ignore[attr-defined]


def test_it_finds_what_the_losses_hide() -> None:
    choices = items(4711, 6)
    budget = int(cost(choices, dict.fromkeys(choices, 0)) * 1.4)
    start = solve(choices, budget)

    def judge(several: list[Picks]) -> list[float]:
        # m0 matters far more than its loss says.
        return [float(10 * (2 - picks["m0"]) + sum(picks.values()) * 1e-3) for picks in several]

    low = {**start, "m0": 0}
    found = evolve(
        choices,
        low,
        lambda picks: cost(choices, picks) <= budget,
        judge,
        generations=20,
        offspring=6,
        seed=97,
    )
    assert found.picks["m0"] == 2
