"""Blocks that are made narrower inside: what the visitor of a compression does with pairs.

Matrices of one pair lie at different sites: the moment of the first is kept until the second is
reached. Nothing else is, so that one block is in memory, and of it one n^2 float64 more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lrc.calibrate.walk import SiteAtWork
from lrc.linalg.diagonal_plus_low_rank import dense_moment
from lrc.linalg.norms import proxy_loss, relative_norm
from lrc.models.base import Block
from lrc.models.tensors import linear_of
from lrc.parts.kept import ROWS, Kept
from lrc.parts.matrix import PackedMatrix
from lrc.pipeline.pairs import (
    Cut,
    Pairs,
    head_values,
    hidden_units,
    pairs_of,
    queries_and_keys,
    refitted,
)
from lrc.quant.tables import as_float16
from lrc.solvers.base import Decomposition, Trace
from lrc.spec import FLAT_LLM, MODEGPT, CompressSpec

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

#: The least part that the rest of a block is cut to where queries and keys stay whole.
_LEAST = 0.05


@dataclass
class Narrower:
    """The pairs of the block at work; ``made`` are cuts of matrices whose site comes later.

    ``whole`` are keys of matrices that stay as they are, and ``weight`` reads one by its tensor.
    """

    spec: CompressSpec
    weight: Callable[[str], F32]
    block: int = -1
    pairs: Pairs = field(default_factory=Pairs)
    whole: tuple[str, ...] = ()
    part: float = 1.0
    names: Mapping[str, str] = field(default_factory=dict)
    first: F64 | None = None
    made: dict[str, Cut] = field(default_factory=dict)

    def look_at(self, at: SiteAtWork, names: Mapping[str, str]) -> None:
        """Find the pairs of a block at the first of its sites; ``names`` are its tensors by key."""
        if at.block == self.block:
            return
        self.block, self.names, self.first, self.made = at.block, names, None, {}
        found = pairs_of(at.dense)
        self.whole = ()
        if self.spec.pairs == FLAT_LLM:
            self.whole = tuple(key for key in (found.queries, found.keys) if key)
            found = replace(found, queries="", keys="")
        self.pairs = _usable(found, at.dense, names, self.spec)
        sizes = {key: math.prod(of.shape) for key, of in at.dense.linears.items()}
        kept, cut = (sum(sizes[key] for key in of) for of in (self.whole, self.narrowed))
        keep = self.spec.decompose.low_rank.keep
        self.part = max((keep * (cut + kept) - kept) / max(cut, 1), _LEAST)

    @property
    def narrowed(self) -> tuple[str, ...]:
        """Keys of the block's matrices that are cut."""
        of = self.pairs
        found = (of.values, of.outputs, of.queries, of.keys, *of.hidden, of.second)
        return tuple(key for key in found if key)

    def visit(self, at: SiteAtWork) -> Iterator[tuple[str, Decomposition]]:
        """The matrices, by key, that are known once this site is reached."""
        mine, pairs = set(at.site.linears) & set(self.narrowed), self.pairs
        if not mine:
            return
        H = _moment(at)
        cuts = self._attention(at, mine, H)
        for key, cut in cuts.items():
            yield key, _decomposition(at.weight(key), cut, H)
        if pairs.hidden and pairs.hidden[0] in mine:
            self.first = H
        if pairs.second in mine:
            yield from self._hidden(at.weight(pairs.second), H)

    def _attention(self, at: SiteAtWork, mine: set[str], H: F64) -> dict[str, Cut]:
        pairs, spec, cuts = self.pairs, self.spec, dict[str, Cut]()
        if pairs.values in mine:
            count = max(int(self.part * pairs.head_dim), 1)
            cuts[pairs.values], self.made[pairs.outputs] = head_values(
                at.weight(pairs.values), self.weight(self.names[pairs.outputs]), H, pairs, count,
                joint=spec.pairs == MODEGPT, seed=spec.decompose.seed,
            )  # fmt: skip
        if pairs.queries in mine:
            Q, K = at.weight(pairs.queries), at.weight(pairs.keys)
            both = queries_and_keys(Q, K, H, pairs, self.part)
            cuts |= dict(zip((pairs.queries, pairs.keys), both, strict=True))
        if pairs.outputs in mine:
            cuts[pairs.outputs] = self.made.pop(pairs.outputs)
        return cuts

    def _hidden(self, W: F32, C: F64) -> Iterator[tuple[str, Decomposition]]:
        """Units by their moment C, then the rows of the matrices that give them."""
        places = hidden_units(C, max(int(self.part * len(C)), 1))
        yield self.pairs.second, _decomposition(W, refitted(W, C, places), C)
        assert self.first is not None
        for key in self.pairs.hidden:
            own = self.weight(self.names[key])
            yield (
                key,
                _decomposition(own, Cut(ROWS, places, own[places].astype(np.float64)), self.first),
            )
        self.first = None


def _usable(found: Pairs, dense: Block, names: Mapping[str, str], spec: CompressSpec) -> Pairs:
    """The pairs without those that a bias parts, or whose matrices the spec names.

    Biases of hidden units are no matter: of a unit that is gone nothing is taken.
    """

    def apart(keys: tuple[str, ...], *, biased: bool) -> bool:
        named = any(linear_of(names[key]) in spec.matrices for key in keys if key)
        has_bias = any(getattr(dense.linears[key], "bias", None) is not None for key in keys if key)
        return not all(keys) or named or (biased and has_bias)

    if apart((found.values, found.outputs), biased=False) or apart((found.values,), biased=True):
        found = replace(found, values="", outputs="")
    if apart((found.queries, found.keys), biased=True):
        found = replace(found, queries="", keys="")
    if apart((*found.hidden, found.second), biased=False) or not found.hidden:
        found = replace(found, hidden=(), second="")
    return found


def _moment(at: SiteAtWork) -> F64:
    """H (n, n) of the site's inputs, whole."""
    H = at.moment().matrix()
    return np.asarray(dense_moment(H), np.float64)


def _decomposition(W: F32, cut: Cut, H: F64) -> Decomposition:
    """The matrix with what is kept of it, and how far it is from W alone."""
    m, n = W.shape
    values = as_float16(cut.values.astype(np.float32), "what is kept of a matrix")
    part = Kept((m, n), cut.side, cut.places.astype(np.uint32), values)
    matrix = PackedMatrix((m, n), 1.0, "none", None, None, (part,))
    E = W - matrix.to_dense()
    energy = proxy_loss(W, H)
    error = float(np.sqrt(max(proxy_loss(E, H), 0.0) / energy)) if energy > 0 else 0.0
    return Decomposition(
        matrix, error, error, Trace(("cut",), (error,)), 0.0,
        (f"cut with its pair to {len(cut.places)} {cut.side}: errors are of this one alone",),
        frobenius_error=relative_norm(E, W),
    )  # fmt: skip
