"""Reading a Llama ``config.json``: known values are taken, others are refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.errors import FormatError, UnsupportedModelError
from lrc.models.config_reader import count, first_id, flag, number
from lrc.models.llama_keys import LLAMA_KEYS, ROPE_KEYS
from lrc.nn.rope import ROPE_TYPES, Rope


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
        LLAMA_KEYS.check(config)
        _refuse_layers(config)
        hidden = count(config, "hidden_size")
        heads = count(config, "num_attention_heads")
        kv_heads = count(config, "num_key_value_heads", heads)
        head_dim = count(config, "head_dim", hidden // heads)
        if heads % kv_heads:
            raise FormatError(
                f"config.json: num_attention_heads={heads} must be a multiple of "
                f"num_key_value_heads={kv_heads}"
            )
        if head_dim % 2:
            raise FormatError(f"config.json: head_dim={head_dim} must be even for rotary positions")
        return cls(
            hidden=hidden,
            intermediate=count(config, "intermediate_size"),
            layers=count(config, "num_hidden_layers"),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            vocab=count(config, "vocab_size"),
            max_positions=count(config, "max_position_embeddings", 2048),
            eps=number(config, "rms_norm_eps", 1e-6),
            rope=_rope(config, head_dim),
            attention_bias=flag(config, "attention_bias"),
            mlp_bias=flag(config, "mlp_bias"),
            tied=flag(config, "tie_word_embeddings"),
            bos_id=first_id(config.get("bos_token_id")),
        )


def _refuse_layers(config: Mapping[str, Any]) -> None:
    odd = sorted({str(kind) for kind in config.get("layer_types") or ()} - {"full_attention"})
    if odd:
        raise UnsupportedModelError(
            f"config.json: layer_types has {', '.join(odd)}; only full_attention is supported"
        )


def _rope(config: Mapping[str, Any], head_dim: int) -> Rope:
    """Rotary settings, where several keys give them in the order that transformers takes.

    ``rope_scaling``, where there is one, takes the place of all ``rope_parameters``; ``rope_theta``
    within it comes before that beside it, and ``rope_type`` before ``type``.
    """
    given = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if not isinstance(given, Mapping):
        raise FormatError(f"config.json: rope_scaling={given!r} must be an object")
    kind = given.get("rope_type", given.get("type", "default"))
    if kind not in ROPE_TYPES:
        raise UnsupportedModelError(
            f"config.json: rope_type={kind!r} is not supported; known are {', '.join(ROPE_TYPES)}"
        )
    ROPE_KEYS.check(given)
    beside = number(config, "rope_theta", 10000.0)
    theta = number(given, "rope_theta", beside)
    if kind == "default":
        return Rope(head_dim, theta)
    factor = number(given, "factor")
    if kind == "linear":
        return Rope(head_dim, theta, kind, factor)
    low, high = number(given, "low_freq_factor"), number(given, "high_freq_factor")
    if not low < high:
        raise FormatError(
            f"config.json: low_freq_factor={low} must be below high_freq_factor={high}"
        )
    original = count(given, "original_max_position_embeddings")
    return Rope(head_dim, theta, kind, factor, low, high, original)
