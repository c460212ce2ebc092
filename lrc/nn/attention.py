"""Attention, causal with grouped queries or to all, in BLAS products over blocks of queries."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from lrc.base.threads import chunks
from lrc.nn.execution import PLAIN, Execution
from lrc.nn.layers import soft_cap

Array = NDArray[np.float32]

#: Queries worked on together: keys after the block are never touched, scores stay in cache.
QUERY_BLOCK = 128
#: Sequences whose last tokens are worked on together.
SEQUENCES = 8
#: Scores that exist at the same time: with very many keys, blocks of queries get smaller.
MAX_SCORES = 1 << 24


def attention(
    q: Array,
    k: Array,
    v: Array,
    window: int = 0,
    execution: Execution = PLAIN,
    *,
    scale: float | None = None,
    cap: float = 0.0,
    slopes: Array | None = None,
) -> Array:
    """Softmax attention of the last T tokens over all S tokens, each seeing itself and before.

    Parameters
    ----------
    q : (B, T, heads, D) float32
    k, v : (B, kv_heads, S, D) float32, S >= T
        Any strides whose last axis is contiguous; ``heads`` is a multiple of ``kv_heads``.
    window : int
        The most tokens that one sees, itself included; 0 is all.
    execution : Execution
    scale : float or None
        Of the products of queries and keys; None is one over the root of D.
    cap : float
        Scores become ``cap * tanh(score / cap)``; 0 leaves them.
    slopes : (heads,) float32 or None
        What is taken off a score of each head for each token between (Press et al., 2021).

    Returns
    -------
    (B, T, heads * D) float32
    """
    batch, tokens, heads, dim = q.shape
    kv_heads = k.shape[1]
    lean = None if slopes is None else slopes.reshape(kv_heads, heads // kv_heads, 1)
    grouped = (batch, tokens, kv_heads, heads // kv_heads, dim)
    q = (q * np.float32(dim**-0.5 if scale is None else scale)).reshape(grouped)
    if tokens == 1:
        k, v = k[:, :, -window:], v[:, :, -window:]
        bias = None if lean is None else leaning(lean, k.shape[2])
        return _attend_each(q, k, v, cap, execution, bias).reshape(batch, 1, heads * dim)
    out = np.empty(grouped, q.dtype)
    before = k.shape[2] - tokens
    size = query_block(heads, k.shape[2], window)

    def tile(item: tuple[int, int, int]) -> None:
        b, start, h = item
        end = min(start + size, tokens)
        seen, lowest = seen_keys(slice(start, end), before, window)
        block = q[b, start:end, h : h + 1].transpose(1, 2, 0, 3)
        mask = causal_mask(end - start, seen.stop - seen.start, lowest)
        keys, values = (a[b, h : h + 1, None, seen] for a in (k, v))
        own = None if lean is None else lean[h : h + 1, :, None]
        bias = None if own is None else leaning(own, seen.stop - seen.start)
        mixed = _attend_block(block, keys, values, mask, cap, bias)
        out[b, start:end, h : h + 1] = mixed.transpose(2, 0, 1, 3)

    starts = range(0, tokens, size)
    execution.each(tile, list(itertools.product(range(batch), starts, range(kv_heads))))
    return out.reshape(batch, tokens, heads * dim)


def full_attention(q: Array, k: Array, v: Array, execution: Execution = PLAIN) -> Array:
    """Softmax attention of T tokens over S others, each seeing all of them.

    Parameters
    ----------
    q : (B, T, heads, D) float32
    k, v : (B, heads, S, D) float32
        Any strides whose last axis is contiguous.
    execution : Execution

    Returns
    -------
    (B, T, heads * D) float32
    """
    batch, tokens, heads, dim = q.shape
    q = (q * np.float32(dim**-0.5)).reshape(batch, tokens, heads, 1, dim)
    if tokens == 1:
        return _attend_each(q, k, v, 0.0, execution).reshape(batch, 1, heads * dim)
    out = np.empty(q.shape, q.dtype)
    size = max(1, min(QUERY_BLOCK, MAX_SCORES // k.shape[2]))

    def tile(item: tuple[int, int, int]) -> None:
        b, start, h = item
        block = q[b, start : start + size, h : h + 1].transpose(1, 2, 0, 3)
        keys, values = (a[b, h : h + 1, None] for a in (k, v))
        mixed = _attend_block(block, keys, values, None, 0.0)
        out[b, start : start + size, h : h + 1] = mixed.transpose(2, 0, 1, 3)

    starts = range(0, tokens, size)
    execution.each(tile, list(itertools.product(range(batch), starts, range(heads))))
    return out.reshape(batch, tokens, heads * dim)


def query_block(heads: int, keys: int, window: int = 0) -> int:
    """How many queries are worked on together, of so many heads over so many keys."""
    # A window alone sets the size where there is one: keys before it may be there or not.
    together = window + QUERY_BLOCK if window else keys
    return max(1, min(QUERY_BLOCK, MAX_SCORES // (heads * together)))


def seen_keys(queries: slice, before: int, window: int = 0) -> tuple[slice, int | None]:
    """The keys that some of ``queries`` see, ``before`` of which lie before the first query.

    Also the first that the first of them sees, counted from those, which is what `causal_mask`
    is told: at most 0, and None without a window.
    """
    lowest = before + queries.start + 1 - window if window else 0
    return slice(max(0, lowest), before + queries.stop), min(0, lowest) if window else None


def softmax_terms(scores: Array) -> Array:
    """Replace ``scores`` (work) by exp(score - row maximum); return the row sums (..., 1)."""
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    total: Array = scores.sum(axis=-1, keepdims=True)
    return total


def leaning(slopes: Array, keys: int) -> Array:
    """What slopes (..., 1) add to scores of so many keys, the last of which is at 0: (..., keys).

    Queries before the last one find another number taken off all keys, which changes nothing.
    """
    biases: Array = slopes * np.arange(1 - keys, 1).astype(np.float32)
    return biases


def _attend_each(
    q: Array, k: Array, v: Array, cap: float, execution: Execution, bias: Array | None = None
) -> Array:
    """The same as `_attend_last`, a few sequences at a time."""
    out = np.empty(q[:, 0].shape, q.dtype)

    def tile(part: slice) -> None:
        out[part] = _attend_last(q[part], k[part], v[part], cap, bias)

    execution.each(tile, chunks(len(q), SEQUENCES))
    return out


def _attend_last(q: Array, k: Array, v: Array, cap: float, bias: Array | None = None) -> Array:
    """Attend with one query a sequence: q (B, 1, kv, group, D) over k, v (B, kv, S, D).

    Matrix-vector products: with a handful of queries they beat BLAS's packing of k and v.
    """
    keys, values = k[:, :, None], v[:, :, None]
    scores: Array = (keys @ q[:, 0, ..., None])[..., 0]
    if cap:
        soft_cap(scores, cap)
    if bias is not None:
        scores += bias
    total = softmax_terms(scores)
    mixed: Array = (scores[..., None, :] @ values)[..., 0, :]
    mixed /= total
    return mixed


def _attend_block(
    q: Array, k: Array, v: Array, mask: Array | None, cap: float, bias: Array | None = None
) -> Array:
    """Attend with queries (kv, group, t, D) to keys (kv, 1, S, D); the mask is of the last ones."""
    scores: Array = q @ k.transpose(0, 1, 3, 2)
    if cap:
        soft_cap(scores, cap)
    if bias is not None:
        scores += bias
    if mask is not None:
        scores[..., -mask.shape[1] :] += mask
    total = softmax_terms(scores)
    mixed: Array = scores @ v
    mixed /= total
    return mixed


def causal_mask(t: int, keys: int, lowest: int | None) -> Array:
    """-inf where t queries, the last of so many keys, do not look: float32 (t, t or keys).

    ``lowest``: the first key that the first query sees, the next one sees the next; None is all.
    """
    future = np.triu(np.full((t, t), -np.inf, np.float32), 1)
    if lowest is None:
        return future
    mask = np.tril(np.full((t, keys), -np.inf, np.float32), lowest - 1)
    mask[:, -t:] += future
    return mask
