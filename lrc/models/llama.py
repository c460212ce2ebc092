"""Llama: RMSNorm, rotary grouped-query attention and SwiGLU (Touvron et al., 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_block import DecoderBlock
from lrc.models.decoder_config import DecoderConfig, decoder_fields
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_tensors import decoder_tensors

KEYS = decoder_keys(
    "llama",
    used=("attention_bias", "mlp_bias"),
    harmless={"is_llama_config": "says that the other keys are those of Llama, as they are"},
)


@dataclass(frozen=True)
class LlamaConfig(DecoderConfig):
    """Shapes and constants of a Llama model."""

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
        return cls(**decoder_fields(config, KEYS))


LLAMA = DecoderFamily("llama", LlamaConfig.from_dict, decoder_tensors, DecoderBlock)
