"""One token through a whole Llama decoder, in one call that every thread makes.

Threads split the rows of each product and meet after it; all else (norms, rotations, the
quantizing of activations) each does for itself on its own memory, which is cheaper than meeting
once more. So every number is made by the same operations for any number of threads.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lrc_kernels import _jit
from lrc_kernels._jit import constant, njit
from lrc_kernels.cpu.dot.product import SHARED, finish, multiply, prepare, share
from lrc_kernels.cpu.engine.barrier import gather, meet
from lrc_kernels.cpu.engine.token_parts import add_to, attend, gate_by_silu, normalise, rotate_pairs
from lrc_kernels.simd.values import load_f32, store_f32

I64 = NDArray[np.int64]
F32 = NDArray[np.float32]

# Sizes: what the model looks like, and where in the text we are.
HIDDEN, WIDE, HEADS, KV_HEADS, HEAD_DIM, LAYERS, WIDTH, CAPACITY = 0, 1, 2, 3, 4, 5, 6, 7
SIZES = 8
# Addresses of a thread's own room.
H, X, Z, WORK, ACT, Q, K, V, GATE, UP, T, SCORES = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
ROOMS = 12
# Addresses that threads share.
YQ, YK, YV, MIXED, YO, YG, YU, YD, LOGITS, START = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
SHARED_ROOMS = 10
#: Matrices of a layer: q, k, v, o, gate, up, down.
PER_LAYER = 7

_ONE, _TWO, _THREE = constant(1), constant(2), constant(3)


@njit(inner=True)
def _site(
    mats: I64, nums: F32, first: int, count: int, x: int, room: I64, width: int, tables: int,
    outs: I64, thread: int, threads: int,
) -> None:  # fmt: skip
    """One thread's rows of ``count`` matrices that share the input x."""
    x_sum = np.float32(0)
    for i in range(count):
        k = first + i
        if mats[k, SHARED] == 0:
            x_sum = prepare(mats, nums, k, x, room[Z], width, room[ACT], room[WORK])
        start, stop = share(mats, k, i % 2, thread, threads)
        if start < stop:
            multiply(mats, nums, k, room[Z], room[ACT], width, x_sum, tables, room[WORK], room[T],
                     outs[i], start, stop)  # fmt: skip


@njit(inner=True)
def _attention(
    sizes: I64, room: I64, keys: int, values: int, position: int, mixed: int, thread: int,
    threads: int,
) -> None:  # fmt: skip
    """One thread's heads of one layer; q, k, v are in the room, k and v go to the cache."""
    heads, kv_heads, dim = sizes[HEADS], sizes[KV_HEADS], sizes[HEAD_DIM]
    scale = np.float32(1) / np.float32(math.sqrt(dim))
    group, stride = heads // kv_heads, 4 * dim * sizes[CAPACITY]
    stored = -1
    for head in range(heads * thread // threads, heads * (thread + 1) // threads):
        kv = head // group
        k_at, v_at = keys + stride * kv, values + stride * kv
        if kv != stored:
            # Threads that share a kv head write the same bytes.
            for j in range(dim):
                new = 4 * (position * dim + j)
                store_f32(k_at + new, load_f32(room[K] + 4 * (kv * dim + j)))
                store_f32(v_at + new, load_f32(room[V] + 4 * (kv * dim + j)))
            stored = kv
        q = room[Q] + 4 * dim * head
        for j in range(dim):
            store_f32(q + 4 * j, load_f32(q + 4 * j) * scale)
        attend(q, k_at, v_at, position + 1, dim, room[SCORES], mixed + 4 * dim * head)


@njit()
def run_token(
    mats: I64, nums: F32, norms: I64, sizes: I64, eps: np.float32, rooms: I64, shared: I64,
    caches: I64, cos: int, sin: int, position: int, tables: int, place: int, thread: int,
    threads: int, with_head: bool,
) -> bool:  # fmt: skip
    """Advance by the token whose embedding is at ``shared[START]``; logits to shared[LOGITS].

    ``mats`` and ``nums``: rows of :mod:`~lrc_kernels.cpu.dot.product`, seven a layer and the
    head. ``norms``: addresses, two a layer and the final one. ``caches``: (layers, 2)
    addresses of f32 (kv_heads, capacity, head_dim). ``place``: of a `barrier.new_place`. False,
    and nothing done, where not all ``threads`` came.
    """
    if threads > 1 and not gather(place, thread, threads - 1):
        return False
    room = rooms[thread]
    hidden, wide, width = sizes[HIDDEN], sizes[WIDE], sizes[WIDTH]
    h, x, target = room[H], room[X], threads
    for i in range(hidden):
        store_f32(h + 4 * i, load_f32(shared[START] + 4 * i))
    for layer in range(sizes[LAYERS]):
        k = PER_LAYER * layer
        normalise(h, norms[2 * layer], hidden, eps, x)
        _site(mats, nums, k, _THREE, x, room, width, tables, shared[YQ:], thread, threads)
        target = meet(place, target, threads)
        finish(mats, nums, k, shared[YQ], room[Q], room[WORK])
        finish(mats, nums, k + 1, shared[YK], room[K], room[WORK])
        finish(mats, nums, k + 2, shared[YV], room[V], room[WORK])
        rotate_pairs(room[Q], sizes[HEADS], sizes[HEAD_DIM], cos, sin)
        rotate_pairs(room[K], sizes[KV_HEADS], sizes[HEAD_DIM], cos, sin)
        _attention(sizes, room, caches[layer, 0], caches[layer, 1], position, shared[MIXED],
                   thread, threads)  # fmt: skip
        target = meet(place, target, threads)
        _site(mats, nums, k + 3, _ONE, shared[MIXED], room, width, tables, shared[YO:], thread,
              threads)  # fmt: skip
        target = meet(place, target, threads)
        finish(mats, nums, k + 3, shared[YO], x, room[WORK])
        add_to(h, x, hidden)
        normalise(h, norms[2 * layer + 1], hidden, eps, x)
        _site(mats, nums, k + 4, _TWO, x, room, width, tables, shared[YG:], thread, threads)
        target = meet(place, target, threads)
        finish(mats, nums, k + 4, shared[YG], room[GATE], room[WORK])
        finish(mats, nums, k + 5, shared[YU], room[UP], room[WORK])
        gate_by_silu(room[GATE], room[UP], wide)
        _site(mats, nums, k + 6, _ONE, room[GATE], room, width, tables, shared[YD:], thread,
              threads)  # fmt: skip
        target = meet(place, target, threads)
        finish(mats, nums, k + 6, shared[YD], x, room[WORK])
        add_to(h, x, hidden)
    if with_head:
        k = PER_LAYER * sizes[LAYERS]
        normalise(h, norms[2 * sizes[LAYERS]], hidden, eps, x)
        _site(mats, nums, k, _ONE, x, room, width, tables, shared[LOGITS:], thread, threads)
    meet(place, target, threads)
    return True


def is_ready() -> bool:
    """Whether `run_token` is compiled in this process."""
    return _jit.is_ready(run_token)


def is_compiled() -> bool:
    """Whether `run_token` is compiled, in this process or by an earlier one on this machine."""
    return is_ready() or _jit.kept_on_disk(run_token)
