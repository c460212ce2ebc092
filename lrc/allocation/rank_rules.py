"""How methods share out ranks among matrices, where L R alone has a part of their numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lrc.allocation.solve import Choice, solve

F64 = NDArray[np.float64]
#: A matrix of which less than this part of the ranks would go stays dense, in WeLore.
_LEAST_REDUCTION = 0.5
#: Parts of the numbers that ROM takes away, and parts of the blocks, the last, that they come from.
_TAKEN, _LAST_BLOCKS = (0.0, 0.1, 0.2, 0.5, 1.0), (0.0, 0.25, 0.375, 0.75, 1.0)
#: Ranks of a matrix that are tried where the least loss is wanted.
_CANDIDATES = 48


@dataclass(frozen=True, eq=False)
class Curve:
    """What ranks of a matrix leave.

    Attributes
    ----------
    name : str
    block : int
    kind : str
        Its key in the block, experts alike.
    shape : (m, n)
    values : float64 array, descending
        Singular values of W, or of what it makes of its inputs; none where nobody looks at them.
    tokens : int
        Those that a squared singular value is a mean over.
    """

    name: str
    block: int
    kind: str
    shape: tuple[int, int]
    values: F64
    tokens: int = 1

    @property
    def numbers(self) -> int:
        """Of W."""
        return self.shape[0] * self.shape[1]

    @property
    def break_even(self) -> int:
        """The largest rank whose factors have fewer numbers than W."""
        return (self.numbers - 1) // sum(self.shape)

    def rank_of(self, part: float) -> int | None:
        """The rank whose factors have at most this part of the numbers; None for all of them."""
        return None if part >= 1 else max(int(part * self.numbers / sum(self.shape)), 1)

    def stored(self, rank: int | None) -> int:
        """Numbers of the factors of a rank, or of W itself."""
        return self.numbers if rank is None else rank * sum(self.shape)

    def left(self, rank: int) -> float:
        """The square of what the best L R of a rank leaves."""
        return float(np.square(self.values[rank:]).sum())


#: Rank by name; None leaves a matrix as it is.
Ranks = dict[str, int | None]


def by_threshold(curves: Sequence[Curve], keep: float) -> Ranks:
    """WeLore: singular values over one part of the largest of their matrix are kept.

    The part is the least at which what is stored fits. A matrix that would keep half its ranks or
    more stays dense. Needs no data. Source: arXiv 2407.11239, its threshold by numbers.
    """
    relative = [c.values / max(c.values[0], np.finfo(np.float64).tiny) for c in curves]

    def ranks(part: float) -> list[int | None]:
        counts = [max(int((values > part).sum()), 1) for values in relative]
        most = [(1 - _LEAST_REDUCTION) * min(c.shape) for c in curves]
        return [r if r < m else None for r, m in zip(counts, most, strict=True)]

    def stored(part: float) -> int:
        return sum(c.stored(r) for c, r in zip(curves, ranks(part), strict=True))

    budget = keep * sum(c.numbers for c in curves)
    parts = np.unique(np.concatenate(relative))
    low, high = -1, len(parts) - 1  # what is stored falls with the part
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if stored(parts[middle]) <= budget else (middle, high)
    return _named(curves, ranks(parts[high]))


def by_loss_of_kind(curves: Sequence[Curve], keep: float) -> Ranks:
    """SVD-LLM 2: of matrices of a kind, those that would lose much are cut less.

    Of a kind, the part that is taken away is in proportion to 1 / log L, L the root of the loss
    over all tokens with equal ranks. L counts as e where it is less, where the rule of the paper
    (arXiv 2503.12340) has no sense, and what a matrix does not have is taken from the others.
    """
    found: Ranks = {}
    for kind in dict.fromkeys((c.kind, c.shape) for c in curves):
        group = [c for c in curves if (c.kind, c.shape) == kind]
        losses = np.sqrt([c.tokens * c.left(c.rank_of(keep) or 0) for c in group])
        weights = 1 / np.log(np.maximum(losses, np.e))
        most = 1 - sum(group[0].shape) / group[0].numbers
        taken = proportional((1 - keep) * len(group), weights, most)
        found |= _named(group, [c.rank_of(1 - t) for c, t in zip(group, taken, strict=True)])
    return found


def proportional(total: float, weights: F64, most: float) -> F64:
    """``total`` in proportion to weights, but at most so much each; the rest goes to the others.

    Examples
    --------
    >>> proportional(2.0, np.array([6.0, 3.0, 1.0]), 1.0).tolist()
    [1.0, 0.75, 0.25]
    """
    found = np.full(len(weights), most)
    free = np.ones(len(weights), bool)
    while free.any():
        parts = weights[free] / weights[free].sum() * (total - most * float((~free).sum()))
        found[free] = np.minimum(parts, most)
        over = free & (found >= most)
        if not (parts > most).any():
            break
        free &= ~over
    return found


def by_last_blocks(curves: Sequence[Curve], keep: float) -> Ranks:
    """ROM: matrices of the last blocks alone, all by the same part.

    How many blocks for how much is read between the three settings of arXiv 2312.07046.
    """
    blocks = 1 + max(c.block for c in curves)
    wanted = float(np.interp(1 - keep, _TAKEN, _LAST_BLOCKS)) * blocks
    count = max(math.ceil(wanted - 1e-9), 1)  # 0.375 of 32 is 12, however it was rounded
    last = [c for c in curves if c.block >= blocks - count]
    whole = sum(c.numbers for c in curves)
    part = max(1 - (1 - keep) * whole / sum(c.numbers for c in last), 0.0)
    chosen = {c.name for c in last}
    return _named(curves, [c.rank_of(part) if c.name in chosen else None for c in curves])


def by_least_loss(curves: Sequence[Curve], keep: float) -> Ranks:
    """The least sum of relative losses, by the numbers of each matrix, of all choices of ranks.

    A knapsack over ranks and leaving matrices as they are. Counted alike, small matrices would
    stay, being cheap, and large ones pay for them, which measured worse.
    """
    ranks: dict[str, list[int | None]] = {}
    items = {}
    for c in curves:
        tried = np.unique(np.linspace(1, max(c.break_even, 1), _CANDIDATES).astype(int)).tolist()
        ranks[c.name] = [*tried, None]
        energy = max(c.left(0), np.finfo(np.float64).tiny)
        items[c.name] = [
            Choice(c.stored(r), 0.0 if r is None else c.numbers * c.left(r) / energy)
            for r in ranks[c.name]
        ]
    picks = solve(items, int(keep * sum(c.numbers for c in curves)))
    return {name: ranks[name][pick] for name, pick in picks.items()}


@dataclass(frozen=True)
class Rule:
    """How ranks are shared out, whether from the ``weights`` alone, or ``outputs``, and why."""

    chosen: Callable[[Sequence[Curve], float], Ranks]
    looks_at: str
    says: str


#: Rules by name; equal parts of every matrix need none.
RULES = {
    "threshold": Rule(by_threshold, "weights", "singular values over a part of the largest"),
    "loss-of-kind": Rule(by_loss_of_kind, "outputs", "cut by the loss of its kind"),
    "last-blocks": Rule(by_last_blocks, "shapes", "the last blocks are cut"),
    "least-loss": Rule(by_least_loss, "outputs", "the least sum of relative losses"),
}


def _named(curves: Sequence[Curve], ranks: Sequence[int | None]) -> Ranks:
    return dict(zip((c.name for c in curves), ranks, strict=True))
