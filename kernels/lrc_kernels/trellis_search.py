"""The slow, exact Viterbi search over a bitshift trellis: what the fast kernel is held against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


def nearest_path(
    z: NDArray[np.floating], values: NDArray[np.floating], bits: int, shared: int | None = None
) -> tuple[NDArray[np.int64], float]:
    """States of least squared error, and that error.

    Parameters
    ----------
    z : array, shape (T,)
        What to approximate, in the order of the stream.
    values : array, shape (2**L,)
        Value of each state.
    bits : int
        k, new bits a weight: the lowest L - k bits of a state are the highest of the one before.
    shared : int, optional
        The L - k bits that the last state hands on and the first one begins with
        (tail-biting); None leaves both ends free.

    Notes
    -----
    Cost T 2^L; runs from the last weight to the first, as states are told apart by their lowest
    bits, which are the oldest.
    """
    states = len(values)
    groups = states >> bits
    costs = np.zeros(states)
    if shared is not None:
        costs[:] = np.inf
        costs[shared::groups] = 0.0
    back = np.empty((len(z), groups), np.int64)
    for t in range(len(z) - 1, -1, -1):
        ways = costs.reshape(-1, groups)
        back[t] = ways.argmin(axis=0)
        best = ways[back[t], np.arange(groups)]
        costs = np.repeat(best, 1 << bits) + (np.asarray(values, np.float64) - z[t]) ** 2
    ends = np.arange(states) if shared is None else np.arange(shared, states, groups)
    state = int(ends[costs[ends].argmin()])
    path = np.empty(len(z), np.int64)
    least = float(costs[state])
    for t in range(len(z)):
        path[t] = state
        kept = state >> bits
        state = int(back[t, kept]) * groups + kept
    return path, least


def nearest_ring(
    z: NDArray[np.floating], values: NDArray[np.floating], bits: int
) -> tuple[NDArray[np.int64], float]:
    """The best tail-biting path: the best of all ``2**(L - k)`` shared bits."""
    groups = len(values) >> bits
    found = (nearest_path(z, values, bits, shared) for shared in range(groups))
    return min(found, key=lambda pair: pair[1])
