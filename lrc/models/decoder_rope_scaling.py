"""Values of each kind of rotary scaling in ``config.json``, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lrc.errors import FormatError
from lrc.models.config_reader import flag, number, short
from lrc.nn.rope_scaling import (
    UNSCALED,
    Dynamic,
    Interpolation,
    Llama3,
    LongRope,
    Scaling,
    Yarn,
    longrope_attention,
    yarn_attention,
)

Settings = Mapping[str, Any]
ORIGINAL = "original_max_position_embeddings"


@dataclass(frozen=True)
class Positions:
    """How many positions a model has, and had before its context was extended."""

    longest: int
    original: int

    @property
    def ratio(self) -> float:
        """How much longer the context has become."""
        return self.longest / self.original


def read_scaling(kind: str, given: Settings, positions: Positions, dim: int) -> Scaling:
    """Scaling of a known kind over ``dim`` rotated dims.

    Raises
    ------
    FormatError
        When a setting is missing or is not what its name says.
    """
    return _SCALINGS[kind](given, positions, dim)


def _unscaled(given: Settings, positions: Positions, dim: int) -> Scaling:
    return UNSCALED


def _linear(given: Settings, positions: Positions, dim: int) -> Scaling:
    return Interpolation(number(given, "factor"))


def _dynamic(given: Settings, positions: Positions, dim: int) -> Scaling:
    if dim <= 2:
        raise FormatError(f"config.json: dynamic rotary positions need more than {dim} dims")
    return Dynamic(number(given, "factor"), positions.longest)


def _yarn(given: Settings, positions: Positions, dim: int) -> Scaling:
    """A factor of null is the ratio of positions; one that is absent is an error."""
    factor = number(given, "factor", positions.ratio if "factor" in given else None)
    fast, slow = number(given, "beta_fast", 32.0), number(given, "beta_slow", 1.0)
    if not slow < fast:
        raise FormatError(f"config.json: beta_slow={slow} must be below beta_fast={fast}")
    scales = [_or_zero(given, key) for key in ("mscale", "mscale_all_dim")]
    return Yarn(
        factor,
        positions.original,
        number(given, "attention_factor", yarn_attention(factor, *scales)),
        beta_fast=fast,
        beta_slow=slow,
        truncate=given.get("truncate") is None or flag(given, "truncate"),
    )


def _or_zero(given: Settings, key: str) -> float:
    """A number above 0, or 0 where it is that, absent or null."""
    return number(given, key) if given.get(key) else 0.0


def _longrope(given: Settings, positions: Positions, dim: int) -> Scaling:
    factor = number(given, "factor", positions.ratio)
    if factor > 1 and positions.original < 2:
        raise FormatError(f"config.json: {ORIGINAL}={positions.original} must be at least 2")
    return LongRope(
        _divisors(given, "short_factor", dim // 2),
        _divisors(given, "long_factor", dim // 2),
        positions.original,
        number(given, "attention_factor", longrope_attention(factor, positions.original)),
    )


def _divisors(given: Settings, key: str, pairs: int) -> tuple[float, ...]:
    """One number above 0 for each pair of dims."""
    values = given.get(key)
    if not isinstance(values, list) or len(values) != pairs:
        raise FormatError(
            f"config.json: {key}={short(values)} must be a list of {pairs} numbers, one for every "
            "pair of rotated dims"
        )
    named = {f"{key}[{j}]": value for j, value in enumerate(values)}
    return tuple(number(named, name) for name in named)


def _llama3(given: Settings, positions: Positions, dim: int) -> Scaling:
    low, high = number(given, "low_freq_factor"), number(given, "high_freq_factor")
    if not low < high:
        raise FormatError(
            f"config.json: low_freq_factor={low} must be below high_freq_factor={high}"
        )
    return Llama3(number(given, "factor"), low, high, positions.original)


_SCALINGS: dict[str, Callable[[Settings, Positions, int], Scaling]] = {
    "default": _unscaled,
    "linear": _linear,
    "dynamic": _dynamic,
    "yarn": _yarn,
    "longrope": _longrope,
    "llama3": _llama3,
}
