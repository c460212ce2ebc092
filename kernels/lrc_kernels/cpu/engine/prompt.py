"""Many tokens through a whole Llama decoder, in one call that every thread makes.

Threads claim panels of weights, or tokens, or heads of queries, and go on when all are done. What
a thread computes for a token or a row does not depend on who computes it, nor on how a prompt is
cut into calls; so every number is the same for any number of threads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc_kernels import _jit
from lrc_kernels._jit import njit
from lrc_kernels.cpu.engine.barrier import PIECES, gather, wait_for_pieces
from lrc_kernels.cpu.engine.lanes_attention import attend_lanes
from lrc_kernels.cpu.engine.prompt_parts import enter, leave, multiply_site
from lrc_kernels.cpu.engine.token_parts import add_to, gate_by_silu, normalise, rotate_pairs
from lrc_kernels.simd.lanes import LANES
from lrc_kernels.simd.threads import arrive
from lrc_kernels.simd.values import load_f32, store_f32

I64 = NDArray[np.int64]
F32 = NDArray[np.float32]

# Sizes: what the model looks like, how many tokens there are and where they begin.
HIDDEN, WIDE, HEADS, KV_HEADS, HEAD_DIM, LAYERS, CAPACITY = 0, 1, 2, 3, 4, 5, 6
TOKENS, POSITION, ROOM, HIGHEST = 7, 8, 9, 10
SIZES = 11
# Addresses of a thread's own room.
X, Z, WORK, GATE, UP, PANEL, TOTALS, SCORES = 0, 1, 2, 3, 4, 5, 6, 7
ROOMS = 8
# Addresses that threads share, after those of `prompt_parts`.
H, QUERIES, MIXED = 12, 13, 14
SHARED_ROOMS = 15
#: Matrices of a layer: q, k, v, o, gate, up, down.
PER_LAYER = 7
#: Parts of a layer, which threads claim in pieces: products are 1 (q, k, v), 5 (o), 7 (gate, up)
#: and 9 (down), attention is 3, and the even ones are what tokens need in between. Part 0 of one
#: layer more ends the last one.
PHASES = 10
#: Tokens that are claimed at a time.
_CHUNK = 4


@njit(inner=True)
def _project(
    mats: I64, nums: F32, extra: I64, sizes: I64, room: I64, shared: I64, layer: int, keys: int,
    values: int, cos: int, sin: int, t: int,
) -> None:  # fmt: skip
    """Queries, keys and values of token t, rotated, where attention looks for them."""
    k, dim, heads, kv_heads = PER_LAYER * layer, sizes[HEAD_DIM], sizes[HEADS], sizes[KV_HEADS]
    c, s = cos + 2 * dim * t, sin + 2 * dim * t
    for i in range(3):
        x = shared[QUERIES] + 4 * heads * dim * t if i == 0 else room[X]
        leave(mats, nums, extra, k, i, t, sizes[HIGHEST], shared, x, room[WORK])
        if i < 2:
            rotate_pairs(x, heads if i == 0 else kv_heads, dim, c, s)
        if i > 0:
            to = (keys if i == 1 else values) + 4 * dim * (sizes[POSITION] + t)
            for head in range(kv_heads):
                place = to + 4 * dim * sizes[CAPACITY] * head
                for j in range(dim):
                    store_f32(place + 4 * j, load_f32(x + 4 * (dim * head + j)))


@njit(inner=True)
def _attention(sizes: I64, room: I64, shared: I64, keys: int, values: int, claims: int) -> None:
    """Heads of 32 queries, those that see most first, until all are done."""
    tokens, dim, heads = sizes[TOKENS], sizes[HEAD_DIM], sizes[HEADS]
    group, blocks = heads // sizes[KV_HEADS], (tokens + LANES - 1) // LANES
    stride = 4 * dim * heads
    while True:
        item = arrive(claims)
        if item >= blocks * heads:
            break
        first, head = LANES * (blocks - 1 - item // heads), item % heads
        at = stride * first + 4 * dim * head
        own = 4 * dim * sizes[CAPACITY] * (head // group)
        attend_lanes(shared[QUERIES] + at, stride, min(LANES, tokens - first), keys + own,
                     values + own, sizes[POSITION] + first, dim, room[SCORES],
                     shared[MIXED] + at)  # fmt: skip
        arrive(claims + 8)
    wait_for_pieces(claims + 8, blocks * heads)


@njit(inner=True)
def _token(
    part: int, mats: I64, nums: F32, extra: I64, norms: I64, sizes: I64, eps: np.float32,
    room: I64, shared: I64, layer: int, t: int,
) -> None:  # fmt: skip
    """Take token t from the products before this part to those after it."""
    k, hidden, most = PER_LAYER * layer, sizes[HIDDEN], sizes[HIGHEST]
    h, x = shared[H] + 4 * hidden * t, room[X]
    # One call of each kernel, for every place that calls one is compiled by itself.
    before, count = k + 4, 2
    if part == 0:
        before, count = k - 1, min(layer, 1)
    elif part == 4:
        before, count = k, 0
    elif part == 6:
        before, count = k + 3, 1
    for i in range(count):
        out = x if count == 1 else room[GATE + i]
        leave(mats, nums, extra, before, i, t, most, shared, out, room[WORK])
    after, others = k + 6, 1
    if part == 8:
        gate_by_silu(room[GATE], room[UP], sizes[WIDE])
        x = room[GATE]
    elif part == 4:
        x = shared[MIXED] + 4 * sizes[HEADS] * sizes[HEAD_DIM] * t
        after = k + 3
    else:
        if count == 1:
            add_to(h, x, hidden)
        if layer == sizes[LAYERS]:
            return
        norm = 2 * layer + (1 if part == 6 else 0)
        normalise(h, norms[norm], hidden, eps, x)
        after, others = (k + 4, 2) if part == 6 else (k, 3)
    enter(mats, nums, extra, after, others, x, t, sizes[ROOM], most, shared, room[Z], room[WORK])


@njit(inner=True)
def _tokens(
    part: int, mats: I64, nums: F32, extra: I64, norms: I64, sizes: I64, eps: np.float32,
    room: I64, shared: I64, layer: int, keys: int, values: int, cos: int, sin: int, claims: int,
) -> None:  # fmt: skip
    """What tokens need before one of the products of a layer, until all are done."""
    while True:
        first = _CHUNK * arrive(claims)
        if first >= sizes[TOKENS]:
            break
        for t in range(first, min(sizes[TOKENS], first + _CHUNK)):
            if part == 2:
                _project(mats, nums, extra, sizes, room, shared, layer, keys, values, cos, sin, t)
            else:
                _token(part, mats, nums, extra, norms, sizes, eps, room, shared, layer, t)
        arrive(claims + 8)
    wait_for_pieces(claims + 8, (sizes[TOKENS] + _CHUNK - 1) // _CHUNK)


@njit()
def run_prompt(
    mats: I64, nums: F32, extra: I64, norms: I64, sizes: I64, eps: np.float32, rooms: I64,
    shared: I64, caches: I64, cos: int, sin: int, first_layer: int, stop_layer: int,
    place: int, thread: int, threads: int,
) -> bool:  # fmt: skip
    """Take the tokens' hidden states at ``shared[H]``, f32 (tokens, hidden), through layers.

    ``mats``, ``nums`` and ``extra``: rows of `prompt_parts`, seven a layer, all trellises.
    ``caches``: (layers, 2) addresses of f32 (kv_heads, capacity, head_dim), which receive
    keys and values. ``cos``, ``sin``: f32 (tokens, head_dim / 2). The last layer, whose
    number is that of all layers, only adds what the one before it left. ``place``: of a
    `barrier.new_place` with ``PHASES`` parts for every layer. False, and nothing done by this
    thread, where it came too late; thread 0 then has to do it all.
    """
    if threads > 1 and not gather(place, thread, 0):
        return False
    room, claims = rooms[thread], place + PIECES
    for layer in range(first_layer, stop_layer):
        last = layer == sizes[LAYERS]
        keys, values = (0, 0) if last else (caches[layer, 0], caches[layer, 1])
        for part in range(1 if last else PHASES):
            k = PER_LAYER * layer
            if part == 1 or part == 5 or part == 7 or part == 9:
                first, count = k + 6, 1
                if part == 1:
                    first, count = k, 3
                elif part == 5:
                    first = k + 3
                elif part == 7:
                    first, count = k + 4, 2
                multiply_site(mats, extra, first, count, sizes[TOKENS], sizes[ROOM], shared,
                              claims, room[PANEL], room[TOTALS])  # fmt: skip
            elif part == 3:
                _attention(sizes, room, shared, keys, values, claims)
            else:
                _tokens(part, mats, nums, extra, norms, sizes, eps, room, shared, layer, keys,
                        values, cos, sin, claims)  # fmt: skip
            claims += 16
    return True


def is_ready() -> bool:
    """Whether `run_prompt` is compiled in this process."""
    return _jit.is_ready(run_prompt)


def is_compiled() -> bool:
    """Whether `run_prompt` is compiled, in this process or by an earlier one on this machine."""
    return is_ready() or _jit.kept_on_disk(run_prompt)
