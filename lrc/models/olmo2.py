"""OLMo 2: norms after attention and after the feed-forward part (OLMo Team, 2024).

Queries and keys are normalised over all heads at once, before they are rotated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_block import QKNormBlock
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_tensors import K_NORM, Q_NORM, decoder_tensors
from lrc.models.tensors import Tensors

KEYS = decoder_keys("olmo2", used=("attention_bias",))
DEFAULTS = Defaults(eps=1e-5)
#: Norms after attention, and after the feed-forward part.
AFTER = ("post_attention_layernorm", "post_feedforward_layernorm")


@dataclass(frozen=True)
class Olmo2Config(DecoderConfig):
    """Shapes and constants of an OLMo 2 model."""

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


@dataclass(frozen=True)
class Olmo2Block(QKNormBlock):
    """Attention, norm, feed-forward part, norm."""

    norms = ()
    norms_after = AFTER


def tensors(config: DecoderConfig) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    norms = dict.fromkeys(AFTER, config.hidden)
    norms[Q_NORM] = config.heads * config.head_dim
    norms[K_NORM] = config.kv_heads * config.head_dim
    return decoder_tensors(config, norms=norms)


OLMO2 = DecoderFamily("olmo2", Olmo2Config.from_dict, tensors, Olmo2Block)
