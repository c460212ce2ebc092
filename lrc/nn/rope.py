"""Rotary position embeddings: frequencies, their scalings, tables and the rotation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Positions = NDArray[np.integer]

ROPE_TYPES = ("default", "linear", "llama3")
_SHORTEST_TABLE = 256


@dataclass(frozen=True)
class Rope:
    """Rotation frequencies of one model.

    ``factor`` divides the positions for ``linear``; for ``llama3`` it divides the low
    frequencies alone, with a smooth passage between wavelengths of
    ``original_max_positions / high_freq_factor`` and ``/ low_freq_factor``.
    """

    head_dim: int
    theta: float = 10000.0
    kind: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192

    def frequencies(self) -> Array:
        """Radians a position, (head_dim / 2,) float32 (Su et al., 2021)."""
        exponent = np.arange(0, self.head_dim, 2, dtype=np.float32) / np.float32(self.head_dim)
        plain: Array = np.float32(1) / np.float32(self.theta) ** exponent
        if self.kind == "linear":
            return plain / np.float32(self.factor)
        if self.kind == "llama3":
            return self._llama3(plain)
        return plain

    def _llama3(self, plain: Array) -> Array:
        """Frequency-dependent interpolation of Llama 3.1 (Grattafiori et al., 2024)."""
        rotations = self.original_max_positions * plain.astype(np.float64) / (2 * np.pi)
        span = self.high_freq_factor - self.low_freq_factor
        kept = np.clip((rotations - self.low_freq_factor) / span, 0, 1)
        return (plain * (kept + (1 - kept) / self.factor)).astype(np.float32)


@lru_cache(maxsize=16)
def _tables(rope: Rope, length: int) -> tuple[Array, Array]:
    """Cosines and sines of positions ``0 .. length - 1``, each (length, head_dim / 2)."""
    angles = np.arange(length, dtype=np.float32)[:, None] * rope.frequencies()
    cos, sin = np.cos(angles), np.sin(angles)
    cos.setflags(write=False)
    sin.setflags(write=False)
    return cos, sin


def rope_tables(rope: Rope, positions: Positions) -> tuple[Array, Array]:
    """Cosines and sines at ``positions``.

    Parameters
    ----------
    rope : Rope
    positions : (T,) integers, at least 0

    Returns
    -------
    cos, sin : (T, head_dim / 2) float32
        Looked up in tables that are kept, whose length is a power of two.
    """
    longest = int(positions.max()) + 1
    cos, sin = _tables(rope, max(_SHORTEST_TABLE, 1 << (longest - 1).bit_length()))
    return cos[positions], sin[positions]


def apply_rope(x: Array, cos: Array, sin: Array) -> Array:
    """Rotate the pairs ``(x_j, x_(j + D/2))`` by each position's angles.

    Parameters
    ----------
    x : (B, T, heads, D) float32
    cos, sin : (T, D / 2) float32

    Returns
    -------
    (B, T, heads, D) float32, a fresh array.
    """
    half = x.shape[-1] // 2
    c, s = cos[:, None, :], sin[:, None, :]
    first, second = x[..., :half], x[..., half:]
    y = np.empty(x.shape, np.float32)
    np.multiply(first, c, out=y[..., :half])
    np.multiply(second, c, out=y[..., half:])
    y[..., :half] -= second * s
    y[..., half:] += first * s
    return y
