"""How ranks are shared out: each rule's own law, and what all of them promise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrc.allocation.rank_rules import (
    RULES,
    Curve,
    by_last_blocks,
    by_least_loss,
    by_loss_of_kind,
    by_threshold,
    proportional,
)
from lrc.spec import RANKS

SHAPES = {"q": (12, 12), "v": (6, 12), "up": (20, 12), "down": (12, 20)}


def model_of(seed: int, blocks: int = 3) -> list[Curve]:
    """Matrices with spectra that decay at several speeds."""
    rng = np.random.default_rng(seed)
    found = []
    for block, (kind, shape) in itertools.product(range(blocks), SHAPES.items()):
        decay = rng.uniform(0.0, 0.5)
        values = rng.uniform(1, 40) * np.exp(-decay * np.arange(min(shape)))
        values *= rng.uniform(0.9, 1.0, len(values))
        found.append(Curve(f"{block}.{kind}", block, kind, shape, np.sort(values)[::-1], 100))
    return found


def stored(curves: list[Curve], ranks: dict[str, int | None]) -> int:
    return sum(c.stored(ranks[c.name]) for c in curves)


def numbers(curves: list[Curve]) -> int:
    return sum(c.numbers for c in curves)


def test_every_rule_has_a_name_in_the_spec() -> None:
    assert set(RANKS) == {"equal", *RULES}


@pytest.mark.parametrize("rule", RULES)
@given(seed=st.integers(0, 10**6), keep=st.floats(0.3, 0.95))
def test_what_is_stored_fits_and_every_matrix_has_a_rank(rule: str, seed: int, keep: float) -> None:
    curves = model_of(seed)
    ranks = RULES[rule].chosen(curves, keep)
    assert set(ranks) == {c.name for c in curves}
    assert stored(curves, ranks) <= keep * numbers(curves) + sum(sum(c.shape) for c in curves) * (
        rule == "last-blocks"
    )
    for c in curves:
        rank = ranks[c.name]
        assert rank is None or 1 <= rank <= min(c.shape)


@given(seed=st.integers(0, 10**6), keep=st.floats(0.3, 0.95))
def test_one_threshold_tells_all_ranks(seed: int, keep: float) -> None:
    """WeLore: with a threshold t, each rank is #{s_i / s_1 > t}, or the matrix stays dense."""
    curves = model_of(seed)
    ranks = by_threshold(curves, keep)
    relative = {c.name: c.values / c.values[0] for c in curves}
    below = [relative[c.name][ranks[c.name]] for c in curves if ranks[c.name] is not None]
    above = [relative[c.name][ranks[c.name] - 1] for c in curves if ranks[c.name] is not None]
    assert max(below) < min(above)
    threshold = max(below)
    for c in curves:
        count = int((relative[c.name] > threshold).sum())
        assert (ranks[c.name] is None) == (count >= 0.5 * min(c.shape))


@given(seed=st.integers(0, 10**6), keep=st.floats(0.5, 0.95))
def test_what_is_taken_from_a_kind_goes_by_the_logarithm_of_losses(seed: int, keep: float) -> None:
    """SVD-LLM 2: ratios L^-1 normalised to the mean of what is asked for."""
    curves = model_of(seed)
    ranks = by_loss_of_kind(curves, keep)
    for kind in SHAPES:
        group = [c for c in curves if c.kind == kind]
        equal = max(int(keep * group[0].numbers / sum(group[0].shape)), 1)
        logs = np.array([np.log(10 * np.sqrt(np.square(c.values[equal:]).sum())) for c in group])
        if (logs < 1).any():
            continue
        taken = len(group) * (1 - keep) * (1 / logs) / (1 / logs).sum()
        most = 1 - sum(group[0].shape) / group[0].numbers
        if (taken > most).any():
            continue
        for c, part in zip(group, taken, strict=True):
            assert ranks[c.name] == max(int((1 - part) * c.numbers / sum(c.shape)), 1)


@given(
    weights=st.lists(st.floats(0.01, 10), min_size=1, max_size=8),
    part=st.floats(0.01, 0.99),
    most=st.floats(0.1, 1),
)
def test_shares_add_up_and_stay_in_proportion(
    weights: list[float], part: float, most: float
) -> None:
    total = part * most * len(weights)
    found = proportional(total, np.array(weights), most)
    assert found.sum() == pytest.approx(total)
    assert (found <= most * (1 + 1e-12)).all()
    free = found < most * (1 - 1e-12)
    if free.any():
        ratios = found[free] / np.array(weights)[free]
        assert np.ptp(ratios) <= 1e-9 * ratios.max()
        assert (np.array(weights)[~free] * ratios.max() >= most * (1 - 1e-9)).all()


def test_the_last_blocks_pay_for_all() -> None:
    """The settings of ROM: 80 % from the last 12 of 32 blocks at 0.46 of their numbers."""
    curves = [Curve(f"{i}", i, "q", (64, 64), np.zeros(0)) for i in range(32)]
    for keep, count, part in ((0.9, 8, 0.60), (0.8, 12, 0.46), (0.5, 24, 0.33)):
        ranks = by_last_blocks(curves, keep)
        assert [ranks[f"{i}"] is None for i in range(32)] == [i < 32 - count for i in range(32)]
        assert ranks["31"] == pytest.approx(part * 32, abs=1)


def test_the_least_loss_is_that_of_all_choices() -> None:
    curves = model_of(5, blocks=1)[:3]
    keep = 0.6
    ranks = by_least_loss(curves, keep)

    def loss(chosen: dict[str, int | None]) -> float:
        return sum(
            0.0 if chosen[c.name] is None else c.numbers * c.left(chosen[c.name]) / c.left(0)
            for c in curves
        )

    every = [[*range(1, c.break_even + 1), None] for c in curves]
    best = min(
        loss(of)
        for picks in itertools.product(*every)
        if stored(curves, of := dict(zip((c.name for c in curves), picks, strict=True)))
        <= keep * numbers(curves)
    )
    assert loss(ranks) == pytest.approx(best)
