"""Helium: Llama whose neighbouring dims are rotated as pairs (Kyutai, 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_block import DecoderBlock
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_rope import Rotary
from lrc.models.decoder_tensors import biased_linears, decoder_tensors
from lrc.models.tensors import Tensors

KEYS = decoder_keys("helium", used=("attention_bias", "mlp_bias"))
DEFAULTS = Defaults(
    kv_heads=20, head_dim=128, bos_id=1, max_positions=4096, eps=1e-8,
    rotary=Rotary(100000.0, interleaved=True),
)  # fmt: skip


@dataclass(frozen=True)
class HeliumConfig(DecoderConfig):
    """Shapes and constants of a Helium model."""

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


def tensors(config: HeliumConfig) -> Tensors:
    """Every tensor of a checkpoint; the output of attention never has a bias."""
    return decoder_tensors(config, biased=set(biased_linears(config)) - {"self_attn.o_proj"})


HELIUM = DecoderFamily("helium", HeliumConfig.from_dict, tensors, DecoderBlock)
