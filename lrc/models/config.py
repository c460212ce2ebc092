"""Reading a Llama ``config.json``: known values are taken, others are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.errors import FormatError, UnsupportedModelError
from lrc.nn.rope import ROPE_TYPES, Rope

# Keys whose only supported values are listed; an absent key is fine.
_ONLY: dict[str, tuple[object, ...]] = {
    "hidden_act": ("silu",),
    "sliding_window": (None,),
    "partial_rotary_factor": (None, 1, 1.0),
    "quantization_config": (None,),
    "rope_interleaved": (None, False),
    "pretraining_tp": (None, 1),
}


@dataclass(frozen=True)
class LlamaConfig:
    """Shapes and constants of a Llama model, under short names."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    max_positions: int
    eps: float
    rope: Rope
    attention_bias: bool
    mlp_bias: bool
    tied: bool
    bos_id: int | None

    @classmethod
    def from_dict(cls, config: Mapping[str, Any]) -> Self:
        """Read the fields of a Hugging Face ``config.json``.

        Raises
        ------
        FormatError
            When a field is missing or is not what its name says.
        UnsupportedModelError
            When a field asks for something that is not computed here.
        """
        _refuse(config)
        hidden = _count(config, "hidden_size")
        heads = _count(config, "num_attention_heads")
        kv_heads = _count(config, "num_key_value_heads", heads)
        head_dim = _count(config, "head_dim", hidden // heads)
        if heads % kv_heads:
            raise FormatError(
                f"config.json: num_attention_heads={heads} must be a multiple of "
                f"num_key_value_heads={kv_heads}"
            )
        if head_dim % 2:
            raise FormatError(f"config.json: head_dim={head_dim} must be even for rotary positions")
        return cls(
            hidden=hidden,
            intermediate=_count(config, "intermediate_size"),
            layers=_count(config, "num_hidden_layers"),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            vocab=_count(config, "vocab_size"),
            max_positions=_count(config, "max_position_embeddings", 2048),
            eps=_number(config, "rms_norm_eps", 1e-6),
            rope=_rope(config, head_dim),
            attention_bias=_flag(config, "attention_bias"),
            mlp_bias=_flag(config, "mlp_bias"),
            tied=_flag(config, "tie_word_embeddings"),
            bos_id=_first_id(config.get("bos_token_id")),
        )


def _refuse(config: Mapping[str, Any]) -> None:
    for key, allowed in _ONLY.items():
        value = config.get(key, allowed[0])
        if value not in allowed:
            raise UnsupportedModelError(
                f"config.json: {key}={value!r} is not supported; only {allowed[-1]!r} is"
            )
    odd = sorted({str(kind) for kind in config.get("layer_types") or ()} - {"full_attention"})
    if odd:
        raise UnsupportedModelError(
            f"config.json: layer_types has {', '.join(odd)}; only full_attention is supported"
        )


def _rope(config: Mapping[str, Any], head_dim: int) -> Rope:
    """Rotary settings from ``rope_parameters``, or from ``rope_scaling`` and ``rope_theta``."""
    given = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(given, Mapping):
        raise FormatError(f"config.json: rope_scaling={given!r} must be an object")
    theta = _number({"rope_theta": config.get("rope_theta")} | dict(given), "rope_theta", 10000.0)
    kind = given.get("rope_type", given.get("type", "default"))
    if kind not in ROPE_TYPES:
        raise UnsupportedModelError(
            f"config.json: rope_type={kind!r} is not supported; known are {', '.join(ROPE_TYPES)}"
        )
    if given.get("partial_rotary_factor") not in (None, 1):
        raise UnsupportedModelError(
            f"config.json: partial_rotary_factor={given['partial_rotary_factor']!r} "
            "is not supported; only 1.0 is"
        )
    if kind == "default":
        return Rope(head_dim, theta)
    factor = _number(given, "factor")
    if kind == "linear":
        return Rope(head_dim, theta, kind, factor)
    low, high = _number(given, "low_freq_factor"), _number(given, "high_freq_factor")
    if not low < high:
        raise FormatError(
            f"config.json: low_freq_factor={low} must be below high_freq_factor={high}"
        )
    original = _count(given, "original_max_position_embeddings")
    return Rope(head_dim, theta, kind, factor, low, high, original)


def _number(config: Mapping[str, Any], key: str, default: float | None = None) -> float:
    """Take a positive number, or ``default`` where the key is absent or null."""
    value = config.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise FormatError(f"config.json: {key}={value!r} must be a number above 0")
    return float(value)


def _count(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """Take a positive integer, or ``default`` where the key is absent or null."""
    value = config.get(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise FormatError(f"config.json: {key}={value!r} must be an integer of at least 1")
    return value


def _flag(config: Mapping[str, Any], key: str) -> bool:
    value = config.get(key)
    if not isinstance(value, bool | None):
        raise FormatError(f"config.json: {key}={value!r} must be true or false")
    return bool(value)


def _first_id(value: object) -> int | None:
    """Take a token id from an id, a list of ids or null."""
    if isinstance(value, list):
        value = value[0] if value else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None
