"""Where the threads of one job wait for each other: they spin briefly, then let others run."""

from __future__ import annotations

from lrc_kernels._jit import njit
from lrc_kernels.simd_threads import arrive, give_way, look, relax

#: Looks at the counter before the processor is offered to other threads.
SPINS = 2000


@njit(inline=True)
def meet(counter: int, target: int, threads: int) -> int:
    """Wait until all ``threads`` have come; return the target of the next meeting.

    ``counter`` is the address of an int64 that only ever grows: by one a thread a meeting.
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
