"""How rotary frequencies are changed for texts longer than those of the training.

A scaling is a frozen record. Some depend on how long a text may become: `Scaling.same_as` says
which lengths give the same frequencies.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def plain_frequencies(theta: float, dim: int) -> Array:
    """Radians a position of ``dim / 2`` pairs, float32 (Su et al., 2021)."""
    exponent = np.arange(0, dim, 2, dtype=np.float32) / np.float32(dim)
    plain: Array = np.float32(1) / np.float32(theta) ** exponent
    return plain


class Scaling:
    """No scaling; what there is derives from it.

    Attributes
    ----------
    kind : str
        As ``rope_type`` has it.
    attention_factor : float
        What cosines and sines are multiplied by.
    """

    kind: ClassVar[str] = "default"
    attention_factor: float = 1.0

    def frequencies(self, theta: float, dim: int, length: int = 0) -> Array:
        """Radians a position, (dim / 2,) float32, in a text that may reach ``length`` tokens."""
        return plain_frequencies(theta, dim)

    def same_as(self, length: int) -> int:
        """A length whose frequencies are those of ``length``: one for all that share them."""
        return 0

    def context(self, tokens: int) -> int:
        """Most tokens of a text, of a model whose configuration says ``tokens``."""
        return tokens


@dataclass(frozen=True)
class Unscaled(Scaling):
    """Frequencies as trained."""


UNSCALED = Unscaled()


@dataclass(frozen=True)
class Interpolation(Scaling):
    """Positions divided by ``factor`` (Chen et al., 2023)."""

    kind: ClassVar[str] = "linear"
    factor: float

    def frequencies(self, theta: float, dim: int, length: int = 0) -> Array:
        """See `Scaling.frequencies`."""
        return plain_frequencies(theta, dim) / np.float32(self.factor)


@dataclass(frozen=True)
class Dynamic(Scaling):
    """A larger theta in texts of more than ``max_positions`` tokens (dynamic NTK scaling).

    It grows with the text such that the lowest frequency is divided by
    ``factor * length / max_positions - (factor - 1)`` (Peng et al., 2023, appendix B).
    """

    kind: ClassVar[str] = "dynamic"
    factor: float
    max_positions: int

    def frequencies(self, theta: float, dim: int, length: int = 0) -> Array:
        """See `Scaling.frequencies`."""
        stretch = self.factor * self.same_as(length) / self.max_positions - (self.factor - 1)
        return plain_frequencies(theta * stretch ** (dim / (dim - 2)), dim)

    def same_as(self, length: int) -> int:
        """See `Scaling.same_as`."""
        return max(length, self.max_positions)

    def context(self, tokens: int) -> int:
        """``factor`` times as many, which is what it stretches for."""
        return int(self.factor * tokens)


@dataclass(frozen=True)
class Yarn(Scaling):
    """Low frequencies divided by ``factor``, high ones kept, a ramp between (Peng et al., 2023).

    The ramp lies over the pairs that make ``beta_fast`` to ``beta_slow`` rotations in
    ``original_max_positions``; with ``truncate`` it begins and ends at whole pairs.
    """

    kind: ClassVar[str] = "yarn"
    factor: float
    original_max_positions: int
    attention_factor: float = 1.0
    beta_fast: float = 32.0
    beta_slow: float = 1.0
    truncate: bool = True

    def frequencies(self, theta: float, dim: int, length: int = 0) -> Array:
        """See `Scaling.frequencies`."""
        plain = plain_frequencies(theta, dim)
        first, last = self._pair(self.beta_fast, theta, dim), self._pair(self.beta_slow, theta, dim)
        if self.truncate:
            first, last = math.floor(first), math.ceil(last)
        first, last = max(first, 0), min(last, dim - 1)
        span = last - first or 0.001
        divided = np.clip((np.arange(dim // 2, dtype=np.float32) - first) / span, 0, 1)
        scaled: Array = plain * (1 - divided) + plain / np.float32(self.factor) * divided
        return scaled

    def _pair(self, rotations: float, theta: float, dim: int) -> float:
        """Which pair makes so many rotations in the original length, as a real number."""
        wavelength = self.original_max_positions / rotations
        return dim * math.log(wavelength / (2 * math.pi)) / (2 * math.log(theta))


@dataclass(frozen=True)
class LongRope(Scaling):
    """A divisor for each frequency, from one list or another (LongRoPE, Ding et al., 2024).

    ``long_factors`` hold in texts that may pass ``original_max_positions``, ``short_factors`` in
    all others; each has one number a pair.
    """

    kind: ClassVar[str] = "longrope"
    short_factors: tuple[float, ...]
    long_factors: tuple[float, ...]
    original_max_positions: int
    attention_factor: float = 1.0

    def frequencies(self, theta: float, dim: int, length: int = 0) -> Array:
        """See `Scaling.frequencies`."""
        factors = self.long_factors if self.same_as(length) else self.short_factors
        divisors: Array = np.array(factors, np.float32)
        return plain_frequencies(theta, dim) / divisors

    def same_as(self, length: int) -> int:
        """See `Scaling.same_as`."""
        longest = self.original_max_positions
        return longest + 1 if length > longest else 0


@dataclass(frozen=True)
class Llama3(Scaling):
    """Low frequencies divided by ``factor`` (Llama 3.1, Grattafiori et al., 2024).

    There is a smooth passage between wavelengths of ``original_max_positions / high_freq_factor``
    and ``/ low_freq_factor``.
    """

    kind: ClassVar[str] = "llama3"
    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_positions: int

    def frequencies(self, theta: float, dim: int, length: int = 0) -> Array:
        """See `Scaling.frequencies`."""
        plain = plain_frequencies(theta, dim)
        rotations = self.original_max_positions * plain.astype(np.float64) / (2 * np.pi)
        span = self.high_freq_factor - self.low_freq_factor
        kept = np.clip((rotations - self.low_freq_factor) / span, 0, 1)
        scaled: Array = (plain * (kept + (1 - kept) / self.factor)).astype(np.float32)
        return scaled


def yarn_attention(factor: float, mscale: float = 0.0, mscale_all_dim: float = 0.0) -> float:
    """Attention factor of YaRN: ``0.1 ln(factor) + 1``, or where both scales are given a ratio."""

    def grown(scale: float) -> float:
        return 0.1 * scale * math.log(factor) + 1 if factor > 1 else 1.0

    if mscale and mscale_all_dim:
        return grown(mscale) / grown(mscale_all_dim)
    return grown(1.0)


def longrope_attention(factor: float, original_max_positions: int) -> float:
    """Attention factor of LongRoPE, for a context that is ``factor`` times the original."""
    if factor <= 1:
        return 1.0
    return math.sqrt(1 + math.log(factor) / math.log(original_max_positions))
