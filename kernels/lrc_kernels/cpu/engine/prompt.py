"""Many tokens through a whole decoder, stage by stage of its table, in one call a thread.

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
from lrc_kernels.cpu.engine.kept_codes import decode_codes, keep_codes
from lrc_kernels.cpu.engine.lanes_attention import attend_lanes
from lrc_kernels.cpu.engine.prompt_parts import enter, leave, multiply_site
from lrc_kernels.cpu.engine.prompt_scans import (
    convolve_tokens,
    scan_channels_of_tokens,
    scan_heads_of_tokens,
)
from lrc_kernels.cpu.engine.table import (
    ADDRESS,
    ATTEND,
    BEGIN,
    BIAS,
    CACHED_KEYS,
    CACHED_VALUES,
    CAPACITY,
    CODE,
    CODE_BITS,
    CONVOLVE,
    COUNT,
    DECODE_ENTRY,
    ENTER,
    FIRST,
    KEEP,
    KEEP_ENTRY,
    KIND,
    KV_HEADS,
    LEAVE,
    LIST,
    MATRIX,
    MULTIPLY,
    ROTATE,
    SELECTIVE_SCAN,
    SOURCE,
    SSD_SCAN,
    STRIDE,
    TARGET,
    WIDTH,
    WINDOW,
    compute,
)
from lrc_kernels.cpu.engine.token_attention import attend_head
from lrc_kernels.simd.lanes import LANES, ROW_BYTES
from lrc_kernels.simd.threads import arrive
from lrc_kernels.simd.values import load_f32, store_f32

_decode_codes, _keep_codes = decode_codes.call, keep_codes.call

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]
F32 = NDArray[np.float32]

#: Sizes: tokens that the quantized activations have room for, how many tokens there are, numbers of
#: a token in R x, layers of a cache, and whether each token is of a sequence of its own (0 or 1).
ACTIVATIONS, TOKENS, HIGHEST, LAYERS, APART = 0, 1, 2, 3, 4
SIZES = 5
#: Of a token: the number of its sequence, and its position there.
SEQUENCE, POSITION = 0, 1
#: Buffers of a thread's own, before those that the table names.
Z, WORK, WEIGHT_PANEL, TOTALS, SCORES = 0, 1, 2, 3, 4
BUFFERS = 5
#: Of a stage: its first row, the one after its last, and the expert whose tokens alone go through
#: it, or -1. It is what tokens need one by one, or one row of another kind.
START, STOP, EXPERT = 0, 1, 2
#: Tokens that are claimed at a time.
_CHUNK = 4


@njit(inline=True)
def _keep(x: int, heads: int, dim: int, to: int, stride: int) -> None:
    """Keys or values of one token to the cache, where heads are ``stride`` bytes apart."""
    for head in range(heads):
        for j in range(dim):
            store_f32(to + stride * head + 4 * j, load_f32(x + 4 * (dim * head + j)))


@njit(inner=True)
def _attention(
    op: I64, numbers: F32, sizes: I64, places: I64, buffers: I64, strides: I64, cache: I64,
    claims: int,
) -> None:  # fmt: skip
    """Heads of 32 queries of one sequence, those that see most first, until all are done."""
    tokens, dim, heads = sizes[TOKENS], op[WIDTH], op[COUNT]
    group, blocks = heads // op[KV_HEADS], (tokens + LANES - 1) // LANES
    queries, out = strides[op[SOURCE]], strides[op[TARGET]]
    now = places[0, POSITION] - cache[BEGIN]
    while True:
        item = arrive(claims)
        if item >= blocks * heads:
            break
        first, head = LANES * (blocks - 1 - item // heads), item % heads
        own = 4 * dim * cache[CAPACITY] * (head // group)
        keys, values = cache[CACHED_KEYS] + own, cache[CACHED_VALUES] + own
        if cache[CODE_BITS] != 0:
            # Behind what `attend_lanes` works on.
            keys = buffers[SCORES] + ROW_BYTES * (now + tokens + dim + 1)
            values = keys + 4 * dim * (now + tokens)
            start = max(0, now + first + 1 - op[WINDOW]) if op[WINDOW] > 0 else 0
            stop = now + min(first + LANES, tokens)
            row, entry, kv = cache.ctypes.data, cache[DECODE_ENTRY], head // group
            _decode_codes(entry, row, 0, dim, kv, start, stop, keys, buffers[WORK])
            _decode_codes(entry, row, 1, dim, kv, start, stop, values, buffers[WORK])
        slope = load_f32(op[BIAS] + 4 * head) if op[BIAS] != 0 else np.float32(0)
        attend_lanes(buffers[op[SOURCE]] + queries * first + 4 * dim * head, queries,
                     min(LANES, tokens - first), keys, values, now + first, dim, numbers[0],
                     numbers[1], slope, op[WINDOW], buffers[SCORES],
                     buffers[op[TARGET]] + out * first + 4 * dim * head, out)  # fmt: skip
        arrive(claims + 8)
    wait_for_pieces(claims + 8, blocks * heads)


@njit(inner=True)
def _attention_apart(
    op: I64, numbers: F32, sizes: I64, places: I64, buffers: I64, strides: I64, caches: I64,
    claims: int,
) -> None:  # fmt: skip
    """Heads of queries that each see a sequence of their own, until all are done."""
    dim, heads, tokens = op[WIDTH], op[COUNT], sizes[TOKENS]
    while True:
        item = arrive(claims)
        if item >= tokens * heads:
            break
        t, head = item // heads, item % heads
        cache = caches[sizes[LAYERS] * places[t, SEQUENCE] + op[ADDRESS]]
        q = buffers[op[SOURCE]] + strides[op[SOURCE]] * t + 4 * dim * head
        y = buffers[op[TARGET]] + strides[op[TARGET]] * t + 4 * dim * head
        attend_head(op, numbers, cache, places[t, POSITION], head, q, buffers[WORK],
                    buffers[SCORES], y)  # fmt: skip
        arrive(claims + 8)
    wait_for_pieces(claims + 8, tokens * heads)


@njit(inner=True)
def _list(
    shares: int, stride: int, tokens: int, first: int, experts: int, lists: I32, counts: I64,
    claims: int,
) -> None:  # fmt: skip
    """List the tokens of experts, from number ``first`` on: those with shares that are not 0."""
    while True:
        e = arrive(claims)
        if e >= experts:
            break
        expert, count = first + e, 0
        for t in range(tokens):
            if load_f32(shares + stride * t + 4 * e) != 0:
                lists[expert, count] = t
                count += 1
        counts[expert] = count
        arrive(claims + 8)
    wait_for_pieces(claims + 8, experts)


@njit(inner=True)
def _tokens(
    mats: I64, nums: F32, extra: I64, ops: I64, numbers: F32, start: int, stop: int, sizes: I64,
    places: I64, tokens: int, lists: I32, expert: int, buffers: I64, strides: I64, shared: I64,
    caches: I64, ropes: I64, claims: int,
) -> None:  # fmt: skip
    """Rows of one stage for each of ``tokens``, all or an expert's, until all are done."""
    while True:
        first = _CHUNK * arrive(claims)
        if first >= tokens:
            break
        # Not a function of its own: counting who refers to its arrays took longer than most rows.
        for i in range(first, min(tokens, first + _CHUNK)):
            t = lists[expert, i] if expert >= 0 else i
            for r in range(start, stop):
                code, k, count, width = ops[r, CODE], ops[r, MATRIX], ops[r, COUNT], ops[r, WIDTH]
                x = buffers[ops[r, SOURCE]] + strides[ops[r, SOURCE]] * t
                to = buffers[ops[r, TARGET]] + strides[ops[r, TARGET]] * t
                if code == LEAVE:
                    leave(mats, nums, extra, k, count, i, sizes[HIGHEST], shared, to, buffers[WORK])
                elif code == ENTER:
                    enter(mats, nums, extra, k, count, x, i, sizes[ACTIVATIONS], sizes[HIGHEST],
                          shared, buffers[Z], buffers[WORK])  # fmt: skip
                elif code == KEEP:
                    layer = sizes[LAYERS] * places[t, SEQUENCE] + ops[r, ADDRESS]
                    slot = places[t, POSITION] - caches[layer, BEGIN]
                    if caches[layer, CODE_BITS] != 0:
                        for head in range(ops[r, KV_HEADS]):
                            _keep_codes(caches[layer, KEEP_ENTRY], x + 4 * width * head, width,
                                        caches[layer].ctypes.data, ops[r, KIND], head, slot,
                                        buffers[WORK])  # fmt: skip
                    else:
                        _keep(x, ops[r, KV_HEADS], width,
                              caches[layer, CACHED_KEYS + ops[r, KIND]] + 4 * width * slot,
                              4 * width * caches[layer, CAPACITY])  # fmt: skip
                else:
                    table = ops[r, ADDRESS] if code == ROTATE else 0
                    at = 2 * width * t if code == ROTATE else 0
                    compute(code, count, width, ops[r, STRIDE], ops[r, KIND], ops[r, FIRST],
                            ops[r, ADDRESS], ops[r, BIAS], numbers[r, 0], numbers[r, 1], x, to,
                            ropes[table, 0] + at, ropes[table, 1] + at)  # fmt: skip
        arrive(claims + 8)
    wait_for_pieces(claims + 8, (tokens + _CHUNK - 1) // _CHUNK)


@njit()
def run_prompt(
    mats: I64, nums: F32, extra: I64, ops: I64, numbers: F32, stages: I64, sizes: I64,
    places: I64, all_buffers: I64, strides: I64, shared: I64, lists: I32, counts: I64, caches: I64,
    states: I64, ropes: I64, first: int, stop: int, place: int, thread: int, threads: int,
) -> bool:  # fmt: skip
    """Do the stages from ``first`` to ``stop`` for all tokens.

    Tokens are consecutive ones of one sequence, or each of a sequence of its own, where there are
    no states. ``mats``, ``nums`` and ``extra``: rows of `prompt_parts`, all trellises. ``ops`` and
    ``numbers``: rows of :mod:`~lrc_kernels.cpu.engine.table`. ``places``: a row for each token.
    ``all_buffers``: a row of addresses a thread; token t has its part of buffer b
    ``strides[b] * t`` bytes further on. ``shared``: (4, most matrices of a site) addresses of
    `prompt_parts`. ``lists`` (experts, tokens) and ``counts`` (experts,), of the tokens of each
    expert of each block: of this call and of earlier ones for the same tokens alone, so that who
    comes late finds nothing to do. ``caches``: rows of the table's module, one for each layer of
    each sequence, which receive keys and values. ``states``: addresses of those before the tokens,
    and of those after them, (states, 2). ``ropes``: addresses of cosines and sines f32 (tokens,
    head_dim / 2). ``place``: of a `barrier.new_place` with a part for every stage. False, and
    nothing done by this thread, where it came too late; thread 0 then has to do it all.
    """
    if threads > 1 and not gather(place, thread, 0):
        return False
    buffers, claims = all_buffers[thread], place + PIECES
    for stage in range(first, stop):
        start, end, expert = stages[stage, START], stages[stage, STOP], stages[stage, EXPERT]
        tokens = counts[expert] if expert >= 0 else sizes[TOKENS]
        op, code = ops[start], ops[start, CODE]
        if tokens == 0:
            pass
        elif code == MULTIPLY:
            multiply_site(mats, extra, op[MATRIX], op[COUNT], tokens, sizes[ACTIVATIONS], shared,
                          claims, buffers[WEIGHT_PANEL], buffers[TOTALS])  # fmt: skip
        elif code == ATTEND and sizes[APART]:
            _attention_apart(op, numbers[start], sizes, places, buffers, strides, caches, claims)
        elif code == ATTEND:
            _attention(op, numbers[start], sizes, places, buffers, strides, caches[op[ADDRESS]],
                       claims)  # fmt: skip
        elif code == CONVOLVE:
            convolve_tokens(op, tokens, buffers, strides, states, claims)
        elif code == SELECTIVE_SCAN:
            scan_channels_of_tokens(op, tokens, buffers, strides, states, buffers[WORK], claims)
        elif code == SSD_SCAN:
            scan_heads_of_tokens(op, tokens, buffers, strides, states, claims)
        elif code == LIST:
            _list(buffers[op[SOURCE]], strides[op[SOURCE]], tokens, op[FIRST], op[COUNT], lists,
                  counts, claims)  # fmt: skip
        else:
            _tokens(mats, nums, extra, ops, numbers, start, end, sizes, places, tokens, lists,
                    expert, buffers, strides, shared, caches, ropes, claims)  # fmt: skip
        claims += 16
    return True


def is_ready() -> bool:
    """Whether `run_prompt` is compiled in this process."""
    return _jit.is_ready(run_prompt)


def is_compiled() -> bool:
    """Whether `run_prompt` is compiled, in this process or by an earlier one on this machine."""
    return is_ready() or _jit.is_cached(run_prompt)
