"""Where the threads of one job wait for each other: they spin briefly, then let others run.

A job has words of its own, `new_place`, and begins with `gather`. Up to there a thread may stay
away: an interrupt or an error keeps it in Python. From there on all are in compiled code, which
nothing interrupts, so nobody waits in vain. Hence no thread writes anything but these words
before it has gathered.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lrc_kernels._jit import njit
from lrc_kernels.simd.threads import arrive, give_way, look, relax, settle

#: Looks at the counter before the processor is offered to other threads.
SPINS = 2000
#: Looks before the others are given up: some 50 ms, and far more where others have work to do.
PATIENCE = 100_000

# Words of a place, on cache lines of their own: who waits, who has come, what was decided.
_COME, _DECIDED = 64, 128
_BEGUN, _GIVEN_UP = 1, 2
#: Bytes from a place to its counters of pieces.
PIECES = 192


def new_place(parts: int = 0) -> NDArray[np.int64]:
    """Words for the threads of one job, all zero; the address of the first is that of `barrier`.

    ``parts``: how many parts of the job are claimed in pieces. Each has two counters, of the
    pieces begun and of those done.
    """
    return np.zeros(PIECES // 8 + 2 * parts, np.int64)


@njit(inline=True)
def gather(place: int, thread: int, needed: int) -> bool:
    """Whether the job begins; if not, it begins for nobody, and nobody may write anything.

    ``place``: address of a `new_place`. Thread 0 begins it when ``needed`` others have come; a
    thread that has waited too long gives it up.
    """
    if thread > 0:
        arrive(place + _COME)
    spins = 0
    while look(place + _DECIDED) == 0:
        if thread == 0 and look(place + _COME) >= needed:
            settle(place + _DECIDED, _BEGUN)
        elif spins == PATIENCE:
            settle(place + _DECIDED, _GIVEN_UP)
        elif spins < SPINS:
            relax()
        else:
            give_way()
        spins += 1
    return bool(look(place + _DECIDED) == _BEGUN)


@njit(inline=True)
def barrier(counter: int, target: int, threads: int) -> int:
    """Wait until all ``threads`` have come; return the target of the next barrier.

    ``counter`` is the address of an int64 that only ever grows: by one a thread a barrier.
    """
    if threads == 1:
        return target
    arrive(counter)
    spins = 0
    while look(counter) < target:
        spins += 1
        if spins < SPINS:
            relax()
        else:
            give_way()
    return target + threads


@njit(inline=True)
def wait_for_pieces(done: int, pieces: int) -> None:
    """Wait until ``pieces`` pieces of work are done, by whomever.

    ``done`` is the address of an int64 that grows by one a piece. Threads that hold no piece,
    because the machine gave their processor away, keep nobody waiting.
    """
    spins = 0
    while look(done) < pieces:
        spins += 1
        if spins < SPINS:
            relax()
        else:
            give_way()
