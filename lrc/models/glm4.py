"""GLM-4 of April 2025 and its kin: GLM-4 with norms around both parts of a block."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.models import glm
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_config import DecoderConfig, decoder_fields
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_tensors import usual_norms
from lrc.models.tensors import Tensors

KEYS = decoder_keys("glm4", used=glm.USED)
#: Norms after attention, and after the feed-forward part.
AFTER = ("post_self_attn_layernorm", "post_mlp_layernorm")


@dataclass(frozen=True)
class Glm4Config(DecoderConfig):
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
        return cls(**decoder_fields(config, KEYS, glm.DEFAULTS))


class Glm4Block(glm.GlmBlock):
    """Attention and the feed-forward part, each between two norms."""

    norms_after = AFTER


def tensors(config: Glm4Config) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    return glm.tensors(config, usual_norms(config, *AFTER))


GLM4 = DecoderFamily("glm4", Glm4Config.from_dict, tensors, Glm4Block)
