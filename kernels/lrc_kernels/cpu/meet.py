"""Where the threads of one job meet: a barrier that spins briefly, then lets others run."""

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
