"""Rotary settings in ``config.json``: what transformers makes of them, or a refusal by name.

Where several keys give the same, the order is that of transformers 5: ``rope_scaling``, where there
is one, takes the place of all ``rope_parameters``; what they hold comes before what stands beside
them, and ``rope_type`` before ``type``. Only ``original_max_position_embeddings`` beside them comes
first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lrc.errors import FormatError, UnsupportedModelError
from lrc.models.config_reader import count, number, short
from lrc.models.decoder_keys import ROPE_KEYS, rope_keys
from lrc.models.decoder_rope_scaling import ORIGINAL, Positions, read_scaling
from lrc.models.decoder_windows import FULL
from lrc.nn.rope import Rope

#: Names that older files have for a kind.
_OLDER = {"su": "longrope"}


@dataclass(frozen=True)
class Rotary:
    """How a family rotates, and what transformers takes where ``config.json`` is silent.

    Attributes
    ----------
    theta : float
    theta_key : str or None
        Key of theta beside the rotary settings; None where only they may give it.
    partial : float or None
        The part of a head that is rotated; None where it is all of it, whatever a file says.
    partial_key : str
        Key of that part beside the rotary settings, which the family names among those it uses.
    dims : int or None
        How many dims of a head are rotated, in a family that says this under ``rotary_dim``.
    interleaved : bool
        Pairs are ``(x_2j, x_(2j + 1))``.
    original : int or None
        ``original_max_position_embeddings`` of a family that has its own default.
    """

    theta: float = 10000.0
    theta_key: str | None = "rope_theta"
    partial: float | None = None
    partial_key: str = "partial_rotary_factor"
    dims: int | None = None
    interleaved: bool = False
    original: int | None = None


WHOLE_HEADS = Rotary()


def read_rope(
    config: Mapping[str, Any],
    family: str,
    head_dim: int,
    max_positions: int,
    rotary: Rotary = WHOLE_HEADS,
) -> Rope:
    """Rotary positions of a model whose blocks all have the same.

    Raises
    ------
    FormatError
        When a setting is missing or is not what its name says.
    UnsupportedModelError
        When a kind or a key is not known.
    """
    given = _settings(config, "rope_scaling") or _settings(config, "rope_parameters")
    original = count(given, ORIGINAL, max_positions)
    original = count(config, ORIGINAL, rotary.original or original)
    return _rope(given, config, family, head_dim, Positions(max_positions, original), rotary)


def read_layer_ropes(
    config: Mapping[str, Any],
    family: str,
    head_dim: int,
    max_positions: int,
    rotaries: Mapping[str, Rotary],
) -> dict[str, Rope]:
    """Rotary positions of each kind of block, under the names that ``layer_types`` has for them.

    ``rope_parameters`` hold an object for each. In older files the keys beside them are read, and
    ``rope_scaling``, which is for blocks that see all and is put over what those have. A family
    with several names these keys among those it uses, is `NO_ROTARY` for what decoders share, and
    calls this beside `decoder_fields`.

    Raises
    ------
    FormatError
        When a setting is missing or is not what its name says.
    UnsupportedModelError
        When a kind or a key is not known.
    """
    nested = _settings(config, "rope_parameters")
    unknown = [key for key, value in nested.items() if key not in rotaries and value is not None]
    if unknown:
        raise UnsupportedModelError(
            f"config.json: rope_parameters has {', '.join(unknown)}; a {family} model has settings "
            f"for {' and '.join(rotaries)}"
        )
    ropes = {}
    for layer_type, rotary in rotaries.items():
        given = {**(_settings(nested, layer_type) or {"rope_type": "default"})}
        if layer_type == FULL:
            given |= _settings(config, "rope_scaling")
        positions = Positions(max_positions, count(given, ORIGINAL, max_positions))
        ropes[layer_type] = _rope(given, config, family, head_dim, positions, rotary)
    return ropes


def _settings(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    given = config.get(key) or {}
    if not isinstance(given, Mapping):
        raise FormatError(f"config.json: {key}={short(given)} must be an object")
    return given


def _rope(
    given: Mapping[str, Any],
    beside: Mapping[str, Any],
    family: str,
    head_dim: int,
    positions: Positions,
    rotary: Rotary,
) -> Rope:
    """Read ``given``, the rotary settings, and what stands ``beside`` them."""
    named = given.get("rope_type", given.get("type", "default"))
    kind = _OLDER.get(named, named) if isinstance(named, str) else None
    if kind not in ROPE_KEYS:
        raise UnsupportedModelError(
            f"config.json: rope_type={short(named)} is not supported; "
            f"known are {', '.join(ROPE_KEYS)}"
        )
    rope_keys(family, kind, rotary.partial is not None).check(given)
    theta = rotary.theta
    if rotary.theta_key is not None:
        theta = number(beside, rotary.theta_key, theta)
    theta = number(given, "rope_theta", theta)
    dim = _rotated(given, beside, head_dim, rotary)
    if kind == "yarn" and theta <= 1:
        raise FormatError(f"config.json: rope_theta={theta} must be above 1 for yarn")
    return Rope(dim, theta, read_scaling(kind, given, positions, dim), rotary.interleaved)


def _rotated(
    given: Mapping[str, Any], beside: Mapping[str, Any], head_dim: int, rotary: Rotary
) -> int:
    """How many dims of a head are rotated; a fraction of one is left out, as in transformers."""
    dim = head_dim
    if rotary.dims is not None:
        dim = count(beside, "rotary_dim", rotary.dims)
    elif rotary.partial is not None:
        part = number(beside, rotary.partial_key, rotary.partial)
        part = number(given, "partial_rotary_factor", part)
        dim = int(head_dim * min(part, 2.0))  # more than 1 is refused below
    if dim % 2 or not 0 < dim <= head_dim:
        raise FormatError(
            f"config.json: rotary positions turn {dim} dims of head_dim={head_dim}; this must be "
            "an even number above 0, and at most all of them"
        )
    return dim
