"""A learning rate that a user need not know: the step along the first gradient that pays most.

Adam moves every number by about its rate, whatever the size of its gradient. So the rate at which
the first step lowers a loss most says how far all numbers may go together; it is less where a model
is closer to its original already, and where its numbers count for more. Learning goes on at
`PART` of it.
"""

from __future__ import annotations

from collections.abc import Callable

#: Rates that are tried, from the highest, until a lower one is worse.
LADDER = tuple(0.032 / 2**i for i in range(10))
#: What learning takes of the rate at which one step is best.
PART = 0.5


def trial_rate(loss: Callable[[float], float], before: float) -> float:
    """`PART` of the rate of `LADDER` whose step gives the least loss.

    Parameters
    ----------
    loss : function
        The loss after one step at a rate.
    before : float
        The loss without a step.

    Examples
    --------
    >>> trial_rate(lambda rate: (rate - 0.005) ** 2, 0.005**2)
    0.002
    """
    least, best = before, LADDER[-1]
    for rate in LADDER:
        now = loss(rate)
        if now < least:
            least, best = now, rate
        elif least < before:
            break  # it was better at a higher rate: from there it only falls
    return float(PART * best)
