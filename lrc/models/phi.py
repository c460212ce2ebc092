"""Phi-1, Phi-1.5 and Phi-2: both parts of a block read one layer norm (Li et al., 2023).

Part of each head is rotated, and everything has a bias, the head too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.config_reader import flag
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_ends import LAYER_NORM_ENDS
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_rope import Rotary
from lrc.models.decoder_tensors import Names, Outside, decoder_tensors
from lrc.models.gpt_block import GptBlock, GptLayers
from lrc.models.tensors import HEAD_BIAS, Tensors
from lrc.nn.ops import Op

KEYS = decoder_keys(
    "phi",
    used=("partial_rotary_factor", "qk_layernorm"),
    spelled={"rms_norm_eps": "layer_norm_eps"},
    own_code=("configuration_phi", "modeling_phi"),
)
DEFAULTS = Defaults(bos_id=1, eps=1e-5, rotary=Rotary(partial=0.5), activation="gelu_new")
LAYERS = GptLayers(
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "self_attn.dense",
    "mlp.fc1",
    "mlp.fc2",
)
NORM = "input_layernorm"
HEAD_NORMS = ("self_attn.q_layernorm", "self_attn.k_layernorm")
NAMES = Names(final_norm="model.final_layernorm")


@dataclass(frozen=True)
class PhiConfig(DecoderConfig):
    """Shapes and constants of a Phi model; ``head_norms``: of queries and keys."""

    head_norms: bool

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
        return cls(
            **decoder_fields(config, KEYS, DEFAULTS), head_norms=flag(config, "qk_layernorm")
        )


class PhiBlock(GptBlock):
    """Its two parts side by side, after the same norm."""

    config: PhiConfig
    layers = LAYERS

    def program(self) -> Sequence[Op]:
        """See the class."""
        return self.side_by_side(NORM)

    def positions(self) -> Sequence[Op]:
        """Rotation, after norms of each head where there are any."""
        keys = zip(HEAD_NORMS, "qk", strict=True) if self.config.head_norms else ()
        return (*(self.norm(key, name, name) for key, name in keys), *super().positions())


def tensors(config: PhiConfig) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    of_heads = dict.fromkeys(HEAD_NORMS if config.head_norms else (), config.head_dim)
    return decoder_tensors(
        config,
        sites=LAYERS.sites,
        shapes=LAYERS.shapes,
        biased=LAYERS.all,
        norms={NORM: config.hidden, **of_heads},
        norm_bias=True,
        names=NAMES,
        outside={HEAD_BIAS: Outside(f"{NAMES.head}.bias", (config.vocab,))},
    )


PHI = DecoderFamily("phi", PhiConfig.from_dict, tensors, PhiBlock, LAYER_NORM_ENDS)
