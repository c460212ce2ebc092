"""A learning rate that a user need not know: the step along the first gradient that pays most.

Adam moves every number by about its rate, whatever the size of its gradient. So the rate at which
the first step lowers a loss most says how far all numbers may go together, the noise of their
gradients included: less where a model is closer to its original, and where its numbers count more.
"""

from __future__ import annotations

from collections.abc import Callable

#: Rates that are tried, from the highest, until a lower one is worse.
LADDER = tuple(0.008 / 2**i for i in range(10))


def trial_rate(loss: Callable[[float], float], before: float) -> float:
    """The rate whose step gives the least loss: of a parabola through the best of `LADDER`.

    Parameters
    ----------
    loss : function
        The loss after one step at a rate.
    before : float
        The loss without a step.

    Examples
    --------
    >>> round(trial_rate(lambda rate: (rate - 0.005) ** 2, 0.005**2), 6)
    0.005
    """
    found: dict[float, float] = {}
    best = LADDER[-1]
    for rate in LADDER:
        found[rate] = loss(rate)
        if found[rate] < found.get(best, before):
            best = rate
        elif best in found:
            break
    low = best if 2 * best in found else best / 2
    gains = {rate: before - now for rate, now in found.items()}
    return _vertex(low, gains.get(low, 0.0), gains[2 * low], best)


def _vertex(rate: float, gain: float, gain_of_double: float, best: float) -> float:
    """Where ``a r - b r^2``, which is known at a rate and at twice that, is greatest.

    Within a factor of two of the rate; ``best`` where the two are on no such parabola.
    """
    bend = 2 * gain - gain_of_double  # 2 b rate^2
    slope = 2 * gain - gain_of_double / 2  # a rate
    if not (gain > 0 and 0 < bend < float("inf")):
        return best
    return rate * min(max(slope / bend, 0.5), 2.0)
