"""One choice for every item: the least total loss within a budget (multiple-choice knapsack).

A linear relaxation gives a price of a byte, a feasible answer and a bound below; what cannot
beat the answer at that price is left out, and a dynamic programme over the rest is exact.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lrc.errors import SpecError

#: Partial answers that are kept after each item; the answer is exact while these suffice.
MOST_STATES = 4096
#: Share of the loss that rounding in sums may hide.
_SLACK = 1e-12


class Choice(NamedTuple):
    """What one option of an item costs, in bytes, and the loss that it leaves."""

    cost: int
    loss: float


@dataclass(frozen=True)
class _Item:
    """Useful options of an item, cost ascending and loss descending, with their own indices."""

    costs: NDArray[np.int64]
    losses: NDArray[np.float64]
    index: tuple[int, ...]
    hull: tuple[int, ...]


def useful(choices: Sequence[Choice]) -> tuple[int, ...]:
    """Indices of choices that no other beats in both cost and loss, cost ascending."""
    order = sorted(range(len(choices)), key=lambda i: (choices[i].cost, choices[i].loss, i))
    kept: list[int] = []
    for i in order:
        if not kept or choices[i].loss < choices[kept[-1]].loss:
            kept.append(i)
    return tuple(kept)


def lower_hull(choices: Sequence[Choice]) -> tuple[int, ...]:
    """Indices of the corners of the lower convex hull of loss over cost, cost ascending."""
    kept: list[int] = []
    for i in useful(choices):
        while len(kept) > 1 and _slope(choices, kept[-2], i) <= _slope(choices, kept[-2], kept[-1]):
            kept.pop()
        kept.append(i)
    return tuple(kept)


def _slope(choices: Sequence[Choice], i: int, j: int) -> float:
    """Change of the loss a byte from i to j: negative, steepest first along the hull."""
    return (choices[j].loss - choices[i].loss) / (choices[j].cost - choices[i].cost)


def solve(items: Mapping[str, Sequence[Choice]], budget: int) -> dict[str, int]:
    """The index of the choice of every item with the least total loss within ``budget``.

    Parameters
    ----------
    items : mapping of str to choices
        Costs are integers >= 0, losses finite. Neither the order of the items nor of their
        choices matters, except that of two equal choices the first is taken.
    budget : int
        Most total cost.

    Returns
    -------
    dict
        Exact while at most ``MOST_STATES`` partial answers are open at once; otherwise within
        the loss of one step of one item of the optimum.

    Raises
    ------
    SpecError
        If even the cheapest choices cost more; the message says how much.

    Notes
    -----
    Sorting N options, then at most ``MOST_STATES`` sums an option. Source: reduction by
    Lagrangian bounds as in Kellerer, Pferschy and Pisinger, Knapsack Problems, chapter 11.
    """
    names = sorted(items)
    least = sum(min(choice.cost for choice in items[name]) for name in names)
    if least > budget:
        raise SpecError(f"a budget of {budget} bytes is too small; the least possible is {least}")
    prepared = [_prepare(items[name]) for name in names]
    picks, price = _relaxed(prepared, budget)
    best = _dynamic(prepared, budget, picks, price)
    return {name: item.index[pick] for name, item, pick in zip(names, prepared, best, strict=True)}


def _prepare(choices: Sequence[Choice]) -> _Item:
    kept = useful(choices)
    left = [choices[i] for i in kept]
    return _Item(
        np.array([c.cost for c in left], np.int64),
        np.array([c.loss for c in left]),
        kept,
        lower_hull(left),
    )


def _relaxed(items: Sequence[_Item], budget: int) -> tuple[list[int], float]:
    """A feasible answer, and the price of a byte at which the linear relaxation breaks.

    Hull steps are taken steepest first until one does not fit; later ones that do fit follow.
    """
    picks = [0] * len(items)
    spent = sum(int(item.costs[0]) for item in items)
    steps = sorted(
        (
            (item.losses[j] - item.losses[i]) / (item.costs[j] - item.costs[i]),
            number,
            i,
            j,
        )
        for number, item in enumerate(items)
        for i, j in zip(item.hull[:-1], item.hull[1:], strict=True)
    )
    price = 0.0
    for slope, number, i, j in steps:
        item = items[number]
        extra = int(item.costs[j] - item.costs[i])
        if picks[number] == i and spent + extra <= budget:
            picks[number], spent = j, spent + extra
        elif price == 0.0:
            price = -float(slope)
    return picks, price


def _dynamic(items: Sequence[_Item], budget: int, picks: list[int], price: float) -> list[int]:
    """The best answer, at least as good as ``picks``.

    The regret of an option is its loss plus ``price`` times its cost, above the least of its
    item. Every answer within the budget has at least the loss (sum of the least) - price budget
    + (sum of its regrets), so a partial answer whose regrets exceed the gap cannot win.
    """
    regrets = [r - r.min() for r in (item.losses + price * item.costs for item in items)]
    bound = sum(float((i.losses + price * i.costs).min()) for i in items) - price * budget
    answer = sum(float(item.losses[p]) for item, p in zip(items, picks, strict=True))
    gap = answer - bound + _SLACK * max(abs(answer), price * budget)
    keep = [np.flatnonzero(regret <= gap) for regret in regrets]
    # Items with a single option left come first: they only add constants.
    order = sorted(range(len(items)), key=lambda i: len(keep[i]))
    rest = sum(int(items[i].costs[keep[i][0]]) for i in order)
    cost, loss, regret = np.zeros(1, np.int64), np.zeros(1), np.zeros(1)
    trail: list[tuple[NDArray[np.intp], NDArray[np.intp]]] = []
    for i in order:
        options = keep[i]
        rest -= int(items[i].costs[options[0]])
        cost = (cost[:, None] + items[i].costs[options]).ravel()
        loss = (loss[:, None] + items[i].losses[options]).ravel()
        regret = (regret[:, None] + regrets[i][options]).ravel()
        kept = _frontier(cost, loss, regret, budget - rest, gap)
        if not len(kept):  # rounding left nothing that beats the answer at hand
            return picks
        trail.append((kept // len(options), options[kept % len(options)]))
        cost, loss, regret = cost[kept], loss[kept], regret[kept]
    state = int(np.lexsort((cost, loss))[0])
    if loss[state] >= answer:
        return picks
    best = list(picks)
    for i, (parents, chosen) in zip(reversed(order), reversed(trail), strict=True):
        best[i], state = int(chosen[state]), int(parents[state])
    return best


def _frontier(
    cost: NDArray[np.int64],
    loss: NDArray[np.float64],
    regret: NDArray[np.float64],
    most: int,
    gap: float,
) -> NDArray[np.intp]:
    """Partial answers worth keeping: affordable, within the gap, beaten in cost or loss by none."""
    fits = np.flatnonzero((cost <= most) & (regret <= gap))
    fits = fits[np.lexsort((loss[fits], cost[fits]))]
    before = np.minimum.accumulate(np.concatenate(([np.inf], loss[fits][:-1])))
    kept = fits[loss[fits] < before]
    if len(kept) > MOST_STATES:
        kept = kept[np.argsort(regret[kept], kind="stable")[:MOST_STATES]]
    return kept
