"""Seed-OSS: Llama with a bias on queries, keys and values, or others (ByteDance, 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.config_reader import flag
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_block import DecoderBlock
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_tensors import biased_linears, decoder_tensors
from lrc.models.tensors import Tensors

KEYS = decoder_keys(
    "seed_oss",
    used=("attention_bias", "attention_out_bias", "mlp_bias"),
    harmless={"residual_dropout": "is for training"},
)
DEFAULTS = Defaults(
    kv_heads=8, head_dim=128, bos_id=0, max_positions=524288, attention_bias=True
)  # fmt: skip
OUTPUT = "self_attn.o_proj"


@dataclass(frozen=True)
class SeedOssConfig(DecoderConfig):
    """Shapes and constants of a Seed-OSS model; ``output_bias``: of attention."""

    output_bias: bool

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
        fields = decoder_fields(config, KEYS, DEFAULTS)
        return cls(**fields, output_bias=flag(config, "attention_out_bias"))


def tensors(config: SeedOssConfig) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    biased = set(biased_linears(config)) - {OUTPUT}
    return decoder_tensors(config, biased=biased | ({OUTPUT} if config.output_bias else set()))


SEED_OSS = DecoderFamily("seed_oss", SeedOssConfig.from_dict, tensors, DecoderBlock)
