"""Convolution over time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lrc.nn.ops import Array, Op, Pass, Values


def convolve(x: Array, weight: Array, bias: Array, stride: int = 1) -> Array:
    """Convolution along the second axis, with zeros around so that every moment has a centre.

    Parameters
    ----------
    x : (B, T, n) float32
    weight : (m, n, width) float32
        ``width`` is odd.
    bias : (m,) float32
    stride : int
        From one centre to the next, in moments.

    Returns
    -------
    (B, ceil(T / stride), m) float32
    """
    batch, moments, n = x.shape
    width, made = weight.shape[2], -(-moments // stride)
    padded = np.zeros((batch, moments + width - 1, n), x.dtype)
    padded[:, width // 2 : width // 2 + moments] = x
    y: Array = np.zeros((batch, made, len(weight)), x.dtype)
    y += bias
    for place in range(width):
        y += padded[:, place : place + moments : stride] @ weight[:, :, place].T
    return y


@dataclass(frozen=True, eq=False)
class Convolve(Op):
    """``value`` becomes its convolution over time; see `convolve`."""

    name: ClassVar[str] = "convolution"
    value: str
    weight: Array
    bias: Array
    stride: int = 1

    @property
    def reads(self) -> tuple[str, ...]:
        """The value."""
        return (self.value,)

    @property
    def writes(self) -> tuple[str, ...]:
        """The value."""
        return (self.value,)

    def run(self, values: Values, at: Pass) -> tuple[Array, ...]:
        """The convolution."""
        return (convolve(values[self.value], self.weight, self.bias, self.stride),)
