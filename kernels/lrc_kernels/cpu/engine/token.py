"""One token through a whole decoder, row by row of its table, in one call that every thread makes.

Threads split the rows of each product and the heads of attention, and wait for each other after
them; all else (norms, rotations, the quantizing of activations) each does for itself on its own
memory, which is cheaper than one more barrier. So every number is made by the same operations for
any number of threads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc_kernels import _jit
from lrc_kernels._jit import njit
from lrc_kernels.cpu.dot.dot_levels import dense_rows
from lrc_kernels.cpu.dot.product import SHARED, finish, multiply, prepare, rows_of_thread
from lrc_kernels.cpu.engine.barrier import barrier, gather
from lrc_kernels.cpu.engine.kept_codes import keep_codes
from lrc_kernels.cpu.engine.scans import convolve, scan_heads, scan_selectively
from lrc_kernels.cpu.engine.table import (
    ADDRESS,
    ATTEND,
    BARRIER,
    BEGIN,
    BIAS,
    CACHED_KEYS,
    CACHED_VALUES,
    CAPACITY,
    CODE,
    CODE_BITS,
    CONVOLVE,
    COUNT,
    ENTRY,
    FINISH,
    FIRST,
    KEEP_ENTRY,
    KEYS,
    KIND,
    KV_HEADS,
    MATRIX,
    MULTIPLY,
    OUTPUTS,
    PARTED,
    PROJECT,
    ROTATE,
    SELECTIVE_SCAN,
    SKIP,
    SOURCE,
    SSD_SCAN,
    STATE,
    STRIDE,
    TARGET,
    VALUES,
    WIDTH,
    compute,
)
from lrc_kernels.cpu.engine.token_attention import attend_head
from lrc_kernels.simd.values import load_f32, store_f32

_convolve, _keep_codes = convolve.call, keep_codes.call

I64 = NDArray[np.int64]
F32 = NDArray[np.float32]

#: Buffers of a thread's own, before those that the table names.
Z, WORK, ACT, T, SCORES = 0, 1, 2, 3, 4
BUFFERS = 5


@njit(inner=True)
def _site(
    mats: I64, nums: F32, op: I64, buffers: I64, width: int, tables: int, thread: int, threads: int
) -> None:
    """One thread's rows of matrices that share an input."""
    x, x_sum = buffers[op[SOURCE]], np.float32(0)
    for i in range(op[COUNT]):
        k = op[MATRIX] + i
        if mats[k, SHARED] == 0:
            x_sum = prepare(mats, nums, k, x, buffers[Z], width, buffers[ACT], buffers[WORK])
        start, stop = rows_of_thread(mats, k, i % 2, thread, threads)
        if start < stop:
            multiply(mats, nums, k, buffers[Z], buffers[ACT], width, x_sum, tables, buffers[WORK],
                     buffers[T], buffers[op[TARGET] + i], start, stop)  # fmt: skip


@njit(inner=True)
def _attention(
    op: I64, numbers: F32, buffers: I64, cache: I64, position: int, thread: int, threads: int
) -> None:
    """One thread's heads of one layer; q, k, v are in the buffers, k and v go to the cache."""
    heads, dim, now = op[COUNT], op[WIDTH], position - cache[BEGIN]
    group, stride = heads // op[KV_HEADS], 4 * dim * cache[CAPACITY]
    k, v, stored = buffers[op[KEYS]], buffers[op[VALUES]], -1
    for head in range(heads * thread // threads, heads * (thread + 1) // threads):
        kv = head // group
        if kv != stored:
            # Threads that share a kv head write the same bytes.
            if cache[CODE_BITS] != 0:
                entry, row, own = cache[KEEP_ENTRY], cache.ctypes.data, 4 * dim * kv
                _keep_codes(entry, k + own, dim, row, 0, kv, now, buffers[WORK])
                _keep_codes(entry, v + own, dim, row, 1, kv, now, buffers[WORK])
            else:
                k_at, v_at = cache[CACHED_KEYS] + stride * kv, cache[CACHED_VALUES] + stride * kv
                for j in range(dim):
                    new = 4 * (now * dim + j)
                    store_f32(k_at + new, load_f32(k + 4 * (kv * dim + j)))
                    store_f32(v_at + new, load_f32(v + 4 * (kv * dim + j)))
            stored = kv
        at = 4 * dim * head
        attend_head(op, numbers, cache, position, head, buffers[op[SOURCE]] + at, buffers[WORK],
                    buffers[SCORES], buffers[op[TARGET]] + at)  # fmt: skip


@njit(inline=True)
def _part(width: int, thread: int, threads: int) -> tuple[int, int]:
    """Which of ``width`` numbers are a thread's: whole 16s."""
    blocks = (width + 15) // 16
    start, stop = 16 * (blocks * thread // threads), 16 * (blocks * (thread + 1) // threads)
    return start, min(width, stop)


@njit(inner=True)
def _scan(op: I64, buffers: I64, states: I64, work: int, thread: int, threads: int) -> None:
    """One thread's channels of one scan, or its heads."""
    x, out, dt = buffers[op[SOURCE]], buffers[op[TARGET]], buffers[op[KEYS]]
    b, c, decay, skip = buffers[op[VALUES]], buffers[op[OUTPUTS]], op[ADDRESS], op[BIAS]
    before, after = states[op[STATE], 0], states[op[STATE], 1]
    if op[CODE] == SELECTIVE_SCAN:
        start, stop = _part(op[WIDTH], thread, threads)
        if start < stop:
            scan_selectively(op[ENTRY], x, dt, b, c, decay, skip, before, after, op[COUNT],
                             op[WIDTH], start, stop, work, out)  # fmt: skip
    else:
        heads = op[STRIDE]
        start, stop = heads * thread // threads, heads * (thread + 1) // threads
        scan_heads(op[ENTRY], x, dt, b, c, decay, skip, before, after, op[COUNT], op[WIDTH],
                   heads // op[KV_HEADS], start, stop, out)  # fmt: skip


@njit()
def run_token(
    mats: I64, nums: F32, ops: I64, numbers: F32, width: int, all_buffers: I64, caches: I64,
    states: I64, ropes: I64, position: int, tables: int, place: int, thread: int, threads: int,
    stop: int,
) -> bool:  # fmt: skip
    """Do the first ``stop`` rows of a table for the token at ``position``.

    ``mats`` and ``nums``: rows of :mod:`~lrc_kernels.cpu.dot.product`. ``ops`` and
    ``numbers``: rows of :mod:`~lrc_kernels.cpu.engine.table`, with barriers before a thread
    reads what others wrote, or writes what others read. ``width``: inputs that activations have
    room for. ``all_buffers``: a row of addresses a thread. ``caches``: a row of the same module
    for each layer. ``states``: addresses of those before the token, and of those after it,
    (states, 2). ``ropes``: addresses of the position's cosines and sines. ``place``: of a
    `barrier.new_place`. False, and nothing done, where not all ``threads`` came.
    """
    if threads > 1 and not gather(place, thread, threads - 1):
        return False
    buffers, target = all_buffers[thread], threads
    r = 0
    while r < stop:
        code, x, to = ops[r, CODE], buffers[ops[r, SOURCE]], buffers[ops[r, TARGET]]
        if code == BARRIER:
            target = barrier(place, target, threads)
        elif code == MULTIPLY:
            _site(mats, nums, ops[r], buffers, width, tables, thread, threads)
        elif code == FINISH:
            finish(mats, nums, ops[r, MATRIX], x, to, buffers[WORK])
        elif code == ATTEND:
            _attention(ops[r], numbers[r], buffers, caches[ops[r, ADDRESS]], position, thread,
                       threads)  # fmt: skip
        elif code == SKIP:
            if load_f32(x + 4 * ops[r, FIRST]) == 0:
                r += ops[r, COUNT]
        elif code == CONVOLVE:
            state = states[ops[r, STATE]]
            _convolve(ops[r, ENTRY], to, ops[r, WIDTH], 0, ops[r, WIDTH], ops[r, COUNT],
                      ops[r, ADDRESS], ops[r, BIAS], state[0], state[1])  # fmt: skip
        elif code in (SELECTIVE_SCAN, SSD_SCAN):
            _scan(ops[r], buffers, states, buffers[WORK], thread, threads)
        elif code == PROJECT and ops[r, PARTED]:
            start, end = _part(ops[r, COUNT], thread, threads)
            dense_rows(ops[r, ADDRESS], ops[r, WIDTH], x, to, start, end)
        else:
            table = ops[r, ADDRESS] if code == ROTATE else 0
            start, end = 0, int(ops[r, WIDTH])
            if ops[r, PARTED]:
                start, end = _part(end, thread, threads)
            compute(code, ops[r, COUNT], end - start, ops[r, STRIDE], ops[r, KIND], ops[r, FIRST],
                    ops[r, ADDRESS], ops[r, BIAS], numbers[r, 0], numbers[r, 1], x, to + 4 * start,
                    ropes[table, 0], ropes[table, 1])  # fmt: skip
        r += 1
    barrier(place, target, threads)
    return True


def is_ready() -> bool:
    """Whether `run_token` is compiled in this process."""
    return _jit.is_ready(run_token)


def is_compiled() -> bool:
    """Whether `run_token` is compiled, in this process or by an earlier one on this machine."""
    return is_ready() or _jit.is_cached(run_token)
