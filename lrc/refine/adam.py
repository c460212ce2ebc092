"""AdamW on named arrays, with its state in float32 (Kingma and Ba, 2015; Loshchilov and Hutter)."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
Key = TypeVar("Key", bound=Hashable)


def cosine_rate(step: int, steps: int, warm: int) -> float:
    """The learning rate of a step over the highest: a linear rise, then half a cosine to 0.

    Examples
    --------
    >>> [round(cosine_rate(step, 6, 2), 2) for step in range(6)]
    [0.5, 1.0, 1.0, 0.85, 0.5, 0.15]
    """
    if step < warm:
        return (step + 1) / warm
    return 0.5 + 0.5 * math.cos(math.pi * (step - warm) / max(steps - warm, 1))


@dataclass
class AdamW(Generic[Key]):
    """Moments of gradients, 8 bytes for each number that is tuned.

    Attributes
    ----------
    beta1, beta2 : float
        How much of the means of g and of g^2 stays.
    eps : float
        Added to the root of the mean square.
    decay : float
        What is taken off a parameter at a rate of one, over the parameter.
    steps, moments
        How many steps were made, and the means of g and g^2 by key: all that the next one needs.
    """

    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    decay: float = 0.0
    steps: int = 0
    moments: dict[Key, tuple[F32, F32]] = field(default_factory=dict)

    def moved(
        self, parameters: Mapping[Key, F32], grads: Mapping[Key, F32], rate: float
    ) -> dict[Key, F32]:
        """The parameters after one step ``x - rate (m / (sqrt(v) + eps) + decay x)``.

        m and v are the means of g and g^2, each over what it would be if g had been 1 always.
        Those without a gradient stay as they are.
        """
        self.steps += 1
        of_m, of_v = (1 - beta**self.steps for beta in (self.beta1, self.beta2))
        found = dict(parameters)
        for key, grad in grads.items():
            x, g = parameters[key], grad.astype(np.float32)
            m, v = self.moments.get(key, (np.zeros_like(x), np.zeros_like(x)))
            m = np.float32(self.beta1) * m + np.float32(1 - self.beta1) * g
            v = np.float32(self.beta2) * v + np.float32(1 - self.beta2) * g * g
            self.moments[key] = m, v
            step = (m / np.float32(of_m)) / (np.sqrt(v / np.float32(of_v)) + np.float32(self.eps))
            found[key] = x - np.float32(rate) * (step + np.float32(self.decay) * x)
        return found
