"""Qwen2 and Qwen2.5: Llama with a bias on queries, keys and values (Yang et al., 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_block import DecoderBlock
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_tensors import decoder_tensors
from lrc.models.tensors import Tensors

_FIXED = "queries, keys and values have a bias and the output has none, whatever it says"
KEYS = decoder_keys(
    "qwen2",
    harmless={
        "sliding_window": "is read only where use_sliding_window is true",
        "attention_bias": _FIXED,
        "qkv_bias": _FIXED,
    },
)
DEFAULTS = Defaults(kv_heads=32, max_positions=32768)
BIASED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


@dataclass(frozen=True)
class Qwen2Config(DecoderConfig):
    """Shapes and constants of a Qwen2 model."""

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
        return cls(**decoder_fields(config, KEYS, DEFAULTS))


def tensors(config: Qwen2Config) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    return decoder_tensors(config, biased=BIASED)


QWEN2 = DecoderFamily("qwen2", Qwen2Config.from_dict, tensors, DecoderBlock)
