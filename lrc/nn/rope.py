"""Rotary position embeddings: the frequencies of a model, their tables, and the rotation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from lrc.nn.rope_scaling import UNSCALED, Scaling

Array = NDArray[np.float32]
Positions = NDArray[np.integer]

_SHORTEST_TABLE = 256


@dataclass(frozen=True)
class Growth:
    """Rotated vectors are ``1 + beta ln(1 + floor(position / step))`` times as long as before."""

    beta: float = 0.0
    step: int = 1

    def factors(self, positions: Positions) -> Array:
        """How much longer at each position, float32."""
        return (1 + self.beta * np.log1p(positions // self.step)).astype(np.float32)


NO_GROWTH = Growth()


@dataclass(frozen=True)
class Rope:
    """Rotation of the first dims of a head.

    Attributes
    ----------
    head_dim : int
        How many dims are rotated, an even number; heads may be wider.
    theta : float
        Base of the frequencies.
    scaling : Scaling
        How they are changed for long texts.
    interleaved : bool
        Pairs are ``(x_2j, x_(2j + 1))``, not ``(x_j, x_(j + head_dim / 2))``.
    growth : Growth
        Of the rotated dims.
    """

    head_dim: int
    theta: float = 10000.0
    scaling: Scaling = UNSCALED
    interleaved: bool = False
    growth: Growth = NO_GROWTH

    def frequencies(self, length: int = 0) -> Array:
        """Radians a position, (head_dim / 2,) float32, in a text that may reach ``length``."""
        return self.scaling.frequencies(self.theta, self.head_dim, length)


@lru_cache(maxsize=16)
def _tables(rope: Rope, rows: int, length: int) -> tuple[Array, Array]:
    """Cosines and sines of positions ``0 .. rows - 1``, each (rows, head_dim / 2)."""
    positions = np.arange(rows)
    angles = positions.astype(np.float32)[:, None] * rope.frequencies(length)
    factor = np.float32(rope.scaling.attention_factor) * rope.growth.factors(positions)[:, None]
    cos, sin = np.cos(angles) * factor, np.sin(angles) * factor
    cos.setflags(write=False)
    sin.setflags(write=False)
    return cos, sin


def rope_tables(rope: Rope, positions: Positions, length: int | None = None) -> tuple[Array, Array]:
    """Cosines and sines at ``positions``, times the scaling's attention factor and the growth.

    Parameters
    ----------
    rope : Rope
    positions : (T,) integers, at least 0
    length : int, optional
        Tokens that the text may reach, which some scalings depend on: those of a whole forward
        pass, or ``max_length`` of a cache, whose keys keep their rotation. By default as far as
        the positions go.

    Returns
    -------
    cos, sin : (T, head_dim / 2) float32
        Looked up in tables that are kept, whose length is a power of two.
    """
    longest = int(positions.max()) + 1
    rows = max(_SHORTEST_TABLE, 1 << (longest - 1).bit_length())
    cos, sin = _tables(rope, rows, rope.scaling.same_as(length or longest))
    return cos[positions], sin[positions]


def apply_rope(x: Array, cos: Array, sin: Array, interleaved: bool = False) -> Array:
    """Rotate pairs of the first R dims of each head by each position's angles.

    Parameters
    ----------
    x : (B, T, heads, D) float32
    cos, sin : (T, R / 2) float32, where R is at most D
    interleaved : bool
        Pairs are ``(x_2j, x_(2j + 1))``, not ``(x_j, x_(j + R/2))``.

    Returns
    -------
    (B, T, heads, D) float32, a fresh array; dims from R on are those of ``x``.
    """
    half = cos.shape[-1]
    rotated = 2 * half
    one, other = slice(0, half), slice(half, rotated)
    if interleaved:
        one, other = slice(0, rotated, 2), slice(1, rotated, 2)
    c, s = cos[:, None, :], sin[:, None, :]
    first, second = x[..., one], x[..., other]
    y = np.empty_like(x, order="C")
    np.multiply(first, c, out=y[..., one])
    np.multiply(second, c, out=y[..., other])
    y[..., one] -= second * s
    y[..., other] += first * s
    y[..., rotated:] = x[..., rotated:]
    return y
