"""Arcee's AFM: Llama with a feed-forward part of two layers and squared ReLU (2025)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_tensors import QKV, decoder_tensors
from lrc.models.gpt_block import GptBlock, GptLayers
from lrc.models.tensors import Tensors

KEYS = decoder_keys("arcee", used=("attention_bias", "mlp_bias"))
DEFAULTS = Defaults(bos_id=128000, max_positions=4096, eps=1e-5, activation="relu2")
LAYERS = GptLayers(QKV, "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")


@dataclass(frozen=True)
class ArceeConfig(DecoderConfig):
    """Shapes and constants of such a model."""

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


class ArceeBlock(GptBlock):
    """Its two parts one after the other, each behind an RMSNorm."""

    norm_kind = "rms"
    layers = LAYERS


def tensors(config: ArceeConfig) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    attention = (*QKV, LAYERS.output) if config.attention_bias else ()
    feed_forward = (LAYERS.up, LAYERS.down) if config.mlp_bias else ()
    return decoder_tensors(
        config, sites=LAYERS.sites, shapes=LAYERS.shapes, biased=(*attention, *feed_forward)
    )


ARCEE = DecoderFamily("arcee", ArceeConfig.from_dict, tensors, ArceeBlock)
