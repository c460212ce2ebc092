"""Backward pass of attention: scores are computed again, a block of queries at a time.

With p = softmax(s) and o = p v: the gradient at v is ``pT g``, at the scores ``p (g vT - g.o)``,
which the soft cap's derivative multiplies, and at q and k their products with k and q (Dao et al.,
2022, appendix B). Scores of one block of queries exist at a time, those of one key head.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from lrc.nn.attention import causal_mask, leaning, query_block, seen_keys, softmax_terms
from lrc.nn.layers import soft_cap
from lrc.nn.memory import AttendAll
from lrc.nn.ops import Attend, Op
from lrc.refine.vjp import Array, Asked, Pulled, Rule, Step


@dataclass(frozen=True)
class _Scoring:
    """How scores become weights: factor of the products, soft cap, slopes (kv, group, 1)."""

    factor: np.float32
    cap: float = 0.0
    slopes: Array | None = None

    def pull(
        self, q: Array, k: Array, v: Array, g: Array, mask: Array | None, head: int
    ) -> tuple[Array, Array, Array]:
        """Gradients of one block: q and g (group, t, D), k and v (S, D) of a key head."""
        scores = (q * self.factor) @ k.T
        slope = None
        if self.cap:
            soft_cap(scores, self.cap)
            slope = 1 - np.square(scores / np.float32(self.cap))
        if self.slopes is not None:
            scores += leaning(self.slopes[head, :, None], len(k))
        if mask is not None:
            scores[..., -mask.shape[1] :] += mask
        scores /= softmax_terms(scores)
        weights = scores
        of_v = _flat(weights).T @ _flat(g)
        ds = g @ v.T
        ds -= np.vecdot(ds, weights)[..., None]
        ds *= weights
        if slope is not None:
            ds *= slope
        ds *= self.factor
        return ds @ k, _flat(ds).T @ _flat(q), of_v


def _flat(x: Array) -> Array:
    """(group, t, n) as (group t, n)."""
    return x.reshape(-1, x.shape[-1])


def attend(step: Step, grads: tuple[Array, ...], asked: Asked) -> Pulled:
    """Of causal attention, with grouped queries, windows, caps and slopes."""
    op: Attend = step.op
    lean = op.lean
    group = op.heads // op.kv_heads
    slopes = None if lean is None else lean.reshape(op.kv_heads, group, 1)
    scoring = _Scoring(np.float32(op.factor), op.cap, slopes)
    return _pulled(step, grads[0], op.head_dim, scoring, op.window, causal=True)


def attend_all(step: Step, grads: tuple[Array, ...], asked: Asked) -> Pulled:
    """Of attention of every token to all keys."""
    op: AttendAll = step.op
    return _pulled(step, grads[0], op.head_dim, _Scoring(np.float32(op.head_dim**-0.5)))


def _pulled(
    step: Step, g: Array, dim: int, scoring: _Scoring, window: int = 0, *, causal: bool = False
) -> Pulled:
    """Gradients at queries (B, T, heads D), keys and values (B, S, kv_heads D)."""
    given = [step.found[name] for name in step.op.reads]
    q, k, v = (x.reshape(*x.shape[:-1], -1, dim) for x in given)
    batch, tokens, heads, _ = q.shape
    kv_heads = k.shape[2]
    g, q = (x.reshape(batch, tokens, kv_heads, -1, dim) for x in (g, q))
    of_q, of_k, of_v = np.empty_like(q), np.zeros_like(k), np.zeros_like(v)
    size = query_block(heads, k.shape[1], window)

    def tile(item: tuple[int, int]) -> None:
        b, h = item
        for start in range(0, tokens, size):
            rows = slice(start, min(start + size, tokens))
            seen, mask = slice(0, k.shape[1]), None
            if causal:
                seen, lowest = seen_keys(rows, 0, window)
                mask = causal_mask(rows.stop - start, seen.stop - seen.start, lowest)
            queries, above = (x[b, rows, h].transpose(1, 0, 2) for x in (q, g))
            found = scoring.pull(queries, k[b, seen, h], v[b, seen, h], above, mask, h)
            of_q[b, rows, h] = found[0].transpose(1, 0, 2)
            of_k[b, seen, h] += found[1]
            of_v[b, seen, h] += found[2]

    step.at.execution.each(tile, list(itertools.product(range(batch), range(kv_heads))))
    made = (of_q, of_k, of_v)
    return Pulled(tuple(x.reshape(y.shape) for x, y in zip(made, given, strict=True)))


RULES: dict[type[Op], Rule] = {Attend: Rule(attend), AttendAll: Rule(attend_all)}
