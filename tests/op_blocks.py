"""Blocks that declare what no Llama does, as operations: what compiled loops are held to."""

from __future__ import annotations

import dataclasses

import numpy as np
from packed_cases import random_matrix

from lrc.nn.linear import DenseLinear
from lrc.nn.ops import (
    LOGITS,
    STREAM,
    Activate,
    Add,
    Attend,
    Gate,
    Multiply,
    Norm,
    Rotate,
    Scale,
    SoftCap,
    Split,
)
from lrc.nn.packed import PackedLinear
from lrc.nn.rope import Rope

HIDDEN, HEADS, KV_HEADS, DIM, WIDE, VOCAB = 32, 4, 2, 16, 48, 40
QUERIES, KEYS = HEADS * DIM, KV_HEADS * DIM
GLOBAL, LOCAL, PART = Rope(DIM, 10000.0), Rope(DIM, 100.0), Rope(6, 1000.0)
PAIRS, PAIRED_PART = Rope(DIM, 1000.0, interleaved=True), Rope(6, 100.0, interleaved=True)


def linear(m, n, seed, *, bias=False, rotation="hadamard", codebook=("trellis12", 2)):
    matrix = random_matrix((m, n), codebook, seed=seed, rotation=rotation)
    b = np.random.default_rng(seed).normal(0, 0.3, m).astype(np.float32) if bias else None
    return PackedLinear(matrix, b)


def norm(source, target, width=HIDDEN, seed=3):
    weight = np.random.default_rng(seed).uniform(0.5, 1.5, width).astype(np.float32)
    return Norm(weight, source, target, 1e-5)


def layer_norm(source, target, width=HIDDEN, *, bias=True):
    rng = np.random.default_rng(7)
    weight, shift = rng.uniform(0.5, 1.5, (2, width)).astype(np.float32)
    return Norm(weight, source, target, 1e-5, "layer", shift - 1 if bias else None)


def attention(layer, source, target, *, rope=GLOBAL, heads_normed=False, bias=True, **how):
    """Queries, keys and values of ``source``, and what attention makes of them."""
    made = zip((QUERIES, KEYS, KEYS), (1, 2, 3), strict=True)
    linears = tuple(linear(m, HIDDEN, 10 * layer + i, bias=bias) for m, i in made)
    normed = (norm("q", "q", DIM, 4), norm("k", "k", DIM, 5)) if heads_normed else ()
    return (
        Multiply(linears, source, ("q", "k", "v")),
        *normed,
        Rotate("q", rope, DIM),
        Rotate("k", rope, DIM),
        Attend("q", "k", "v", "mixed", layer, HEADS, KV_HEADS, DIM, **how),
        Multiply((linear(HIDDEN, QUERIES, 10 * layer + 4),), "mixed", (target,)),
    )


def gated(layer, source, target, kind="silu", **how):
    wide = tuple(linear(WIDE, HIDDEN, 10 * layer + i, **how) for i in (5, 6))
    return (
        Multiply(wide, source, ("gate", "up")),
        Gate("gate", "up", kind),
        Multiply((linear(HIDDEN, WIDE, 10 * layer + 7, **how),), "gate", (target,)),
    )


def windows():
    """Windows in turn, each with a rope and a scale of its own; heads are normed."""
    return [
        op
        for layer, (window, rope) in enumerate([(7, LOCAL), (0, GLOBAL), (33, LOCAL)])
        for op in (
            norm(STREAM, "x"),
            *attention(layer, "x", "y", rope=rope, window=window, scale=0.4, heads_normed=True),
            Add("y"),
        )
    ]


def parallel():
    """Attention and gate read the same norm, whose value outlives attention."""
    return [
        op
        for layer in range(2)
        for op in (
            norm(STREAM, "x"),
            *attention(layer, "x", "a", bias=False),
            *gated(layer, "x", "b"),
            Add("b", "a"),
            Add("a"),
        )
    ]


def normed_after():
    """Norms of what blocks add, in place or not, and none before; matrices of no rotation."""
    return [
        op
        for layer in range(2)
        for op in (
            *attention(layer, STREAM, "y"),
            norm("y", "y"),
            Add("y"),
            *gated(layer, STREAM, "y", rotation="none"),
            norm("y", "z"),
            Add("z"),
        )
    ]


def bare():
    """Products alone: nothing lies between one that reads and the next one that writes."""
    return [
        op
        for layer in range(3)
        for op in (
            Multiply((linear(HIDDEN, HIDDEN, layer),), STREAM, ("y",)),
            Multiply((linear(HIDDEN, HIDDEN, layer + 5),), "y", ("y",)),
            norm("y", "y"),
            Add("y"),
        )
    ]


def changed_in_place():
    """What attention wrote for all threads is changed by each of them."""
    made = attention(0, STREAM, "y")
    return [*made[:-1], norm("mixed", "mixed", QUERIES), Gate("mixed", "q"), made[-1], Add("y")]


def twice():
    """Two attentions, the second over what others may still be reading of the first."""
    *made, attend, out = attention(0, STREAM, "y")
    again = dataclasses.replace(attend, layer=1, window=3)
    normed = norm("mixed", "n", QUERIES)
    return [*made, attend, normed, again, Gate("n", "mixed"), Add("n", "mixed"), out, Add("y")]


def layered():
    """Norms about the mean, with a bias and without; activations with no gate; a bias each."""
    return [
        op
        for layer, kind in enumerate(("gelu", "gelu_tanh", "relu"))
        for op in (
            layer_norm(STREAM, "x", bias=layer != 1),
            *attention(layer, "x", "y", bias=True),
            Add("y"),
            layer_norm(STREAM, "x"),
            Multiply((linear(WIDE, HIDDEN, 10 * layer + 5, bias=True),), "x", ("wide",)),
            Activate("wide", kind),
            Multiply((linear(HIDDEN, WIDE, 10 * layer + 6, bias=True),), "wide", ("y",)),
            Add("y"),
        )
    ]


def gates():
    """Every kind of gate; what is added is scaled, and so is the stream of all threads."""
    return [
        Scale(STREAM, 1.5),
        *(
            op
            for layer, kind in enumerate(("silu", "gelu", "gelu_tanh", "relu"))
            for op in (
                norm(STREAM, "x"),
                *gated(layer, "x", "y", kind),
                Scale("y", 0.3),
                Add("y"),
            )
        ),
    ]


def capped():
    """Soft caps of scores, in windows and without, by a scale; what attention wrote is scaled."""
    return [
        op
        for layer, (window, cap) in enumerate([(7, 1.0), (0, 2.0), (0, 50.0)])
        for op in (
            norm(STREAM, "x"),
            *attention(layer, "x", "y", window=window, scale=0.4, cap=cap, heads_normed=True)[:-1],
            Scale("mixed", 0.7),
            attention(layer, "x", "y")[-1],
            SoftCap("y", 40.0),
            Add("y"),
        )
    ]


def leaning():
    """What is far off counts less, by a slope of each head, in a window and without."""
    return [
        op
        for layer, window in enumerate((0, 7))
        for op in (
            norm(STREAM, "x"),
            *(op for op in attention(layer, "x", "y", window=window, slopes=(0.5, 0.25, 0.125, 1.0))
              if not isinstance(op, Rotate)),
            Add("y"),
        )
    ]  # fmt: skip


def partial():
    """Part of each head is rotated, by halves and by neighbours, or none of it."""
    return [
        op
        for layer, rope in enumerate((PART, PAIRS, PAIRED_PART, None))
        for op in (
            norm(STREAM, "x"),
            *(op for op in attention(layer, "x", "y", rope=rope or GLOBAL, heads_normed=True)
              if rope or not isinstance(op, Rotate)),
            Add("y"),
        )
    ]  # fmt: skip


def fused():
    """Queries, keys and values of one product, by kind or by head; gate and up likewise."""
    group = HEADS // KV_HEADS * DIM
    splits = (
        Split("qkv", ("q", "k", "v"), (QUERIES, KEYS, KEYS)),
        Split("qkv", ("q", "k", "v"), (group, DIM, DIM), KV_HEADS),
    )
    return [
        op
        for layer, split in enumerate(splits)
        for op in (
            norm(STREAM, "x"),
            Multiply((linear(QUERIES + 2 * KEYS, HIDDEN, layer, bias=True),), "x", ("qkv",)),
            split,
            *attention(layer, "x", "y", rope=PART)[1:],
            Add("y"),
            Multiply((linear(2 * WIDE, HIDDEN, layer + 5),), STREAM, ("both",)),
            Split("both", ("gate", "up"), (WIDE, WIDE)),
            *gated(layer, "x", "y")[1:],
            Add("y"),
        )
    ]


def rows_of_weights():
    """Each head has weights of its own in its norm."""
    rng = np.random.default_rng(13)
    weight, other = (rng.uniform(0.5, 1.5, (h, DIM)).astype(np.float32) for h in (HEADS, KV_HEADS))
    made = attention(0, "x", "y")
    return [
        norm(STREAM, "x"),
        made[0],
        Norm(weight, "q", "q", 1e-5, "layer"),
        Norm(other, "k", "k", 1e-5),
        *made[1:],
        Add("y"),
        *gated(0, STREAM, "y", "relu"),
        Scale("y", 0.01),
        Add("y"),
    ]


CASES = [
    windows, parallel, normed_after, bare, changed_in_place, twice, layered, gates, capped, leaning,
    partial, fused, rows_of_weights,
]  # fmt: skip


def tail(*, bias=False, cap=0.0):
    """Norm and head, and a soft cap of logits."""
    rng = np.random.default_rng(8)
    weight = rng.normal(0, 0.2, (VOCAB, HIDDEN)).astype(np.float32)
    head = DenseLinear(weight, rng.normal(0, 1, VOCAB).astype(np.float32) if bias else None)
    made = (norm(STREAM, "x", seed=6), Multiply((head,), "x", (LOGITS,)))
    return (*made, SoftCap(LOGITS, cap)) if cap else made
