"""A (1 + lambda) search around an allocation, judged end to end.

Errors in many matrices do not quite add up, so what the additive model calls best can still be
improved: some matrices go up a step, others down, and the model itself says whether that helped
(Sieberling et al. 2024, EvoPress, arXiv 2410.14649). It can only choose as well as its held-out
text can tell: on a few windows what it gains there is lost on other text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lrc.allocation.solve import Choice

Picks = dict[str, int]
#: Changes of one child are at most this many steps up, with as many down as that takes.
_MOST_UP = 3
_ATTEMPTS = 50


@dataclass(frozen=True)
class Evolved:
    """The best picks found; ``fitness`` of the parent after each generation, the start first."""

    picks: Picks
    fitness: tuple[float, ...]
    tried: int


def evolve(
    items: Mapping[str, Sequence[Choice]],
    picks: Mapping[str, int],
    fits: Callable[[Picks], bool],
    judge: Callable[[list[Picks]], list[float]],
    *,
    generations: int,
    offspring: int,
    seed: int,
    advance: Callable[[], object] = lambda: None,
) -> Evolved:
    """Improve ``picks`` by swaps of choices, for a fixed number of generations.

    Parameters
    ----------
    items : mapping of str to choices
        Each item's in ascending order of cost and descending order of loss. The losses only
        guide what is tried: steps up that promise most a byte, steps down that cost least.
    picks : mapping of str to int
        The start.
    fits : callable
        Whether picks keep to the budget.
    judge : callable
        Fitness of several picks, less is better.
    generations, offspring : int
    seed : int
        With the arguments it decides the result.
    advance : callable
        Called after each generation.

    Notes
    -----
    Law: the result fits, and its fitness is never above the start's.
    """
    rng = np.random.default_rng(seed)
    parent = dict(sorted(picks.items()))
    seen = {tuple(parent.values())}
    fitness = list(judge([parent])) if generations else []
    for _ in range(generations):
        children = _children(items, parent, fits, offspring, rng, seen)
        if children:
            scores = judge(children)
            best = int(np.argmin(scores))
            if scores[best] < fitness[-1]:
                parent = children[best]
        fitness.append(min(fitness[-1], *scores) if children else fitness[-1])
        advance()
    return Evolved(parent, tuple(fitness), len(seen) - 1)


def _children(
    items: Mapping[str, Sequence[Choice]],
    parent: Picks,
    fits: Callable[[Picks], bool],
    count: int,
    rng: np.random.Generator,
    seen: set[tuple[int, ...]],
) -> list[Picks]:
    """Up to ``count`` changed picks that fit and were not seen before."""
    found: list[Picks] = []
    for _ in range(_ATTEMPTS):
        if len(found) == count:
            break
        child = _mutated(items, parent, fits, rng)
        if child is not None and tuple(child.values()) not in seen:
            seen.add(tuple(child.values()))
            found.append(child)
    return found


def _mutated(
    items: Mapping[str, Sequence[Choice]],
    parent: Picks,
    fits: Callable[[Picks], bool],
    rng: np.random.Generator,
) -> Picks | None:
    """Up to three items a step up, then others down until it fits; None where none can."""
    child = dict(parent)
    raised: set[str] = set()
    for _ in range(int(rng.integers(1, _MOST_UP + 1, 2).min())):
        up = {
            name: _gain(items[name], pick, pick + 1)
            for name, pick in child.items()
            if pick + 1 < len(items[name]) and name not in raised
        }
        if up:
            name = _draw(up, rng)
            child[name] += 1
            raised.add(name)
    while not fits(child):
        down = {
            name: 1.0 / max(_gain(items[name], pick - 1, pick), 1e-300)
            for name, pick in child.items()
            if pick > 0 and name not in raised
        }
        if not down:
            return None
        child[_draw(down, rng)] -= 1
    return child


def _gain(choices: Sequence[Choice], low: int, high: int) -> float:
    """Loss saved a byte between two choices."""
    saved = choices[low].loss - choices[high].loss
    return max(saved, 0.0) / max(choices[high].cost - choices[low].cost, 1)


def _draw(weights: Mapping[str, float], rng: np.random.Generator) -> str:
    names = sorted(weights)
    odds = np.array([weights[name] for name in names])
    odds = odds / odds.max() if odds.max() > 0 else np.ones(len(names))
    return names[int(rng.choice(len(names), p=odds / odds.sum()))]
