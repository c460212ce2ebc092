"""GPT-NeoX and Pythia: partial rotary positions, both parts side by side (Black et al., 2022).

The fused matrix holds the queries, keys and values of each head together.
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
from lrc.models.decoder_tensors import NORMS, Names, decoder_tensors
from lrc.models.gpt_block import GptBlock, GptLayers
from lrc.models.tensors import Tensors
from lrc.nn.ops import Op

KEYS = decoder_keys(
    "gpt_neox",
    used=("attention_bias", "use_parallel_residual", "rotary_pct"),
    harmless={"classifier_dropout": "is for training"},
    spelled={
        "rope_theta": "rotary_emb_base",
        "rms_norm_eps": "layer_norm_eps",
        "num_key_value_heads": None,
        "head_dim": None,
    },
)
DEFAULTS = Defaults(
    bos_id=0,
    eps=1e-5,
    rotary=Rotary(theta_key="rotary_emb_base", partial=0.25, partial_key="rotary_pct"),
    activation="gelu",
)
LAYERS = GptLayers(
    ("attention.query_key_value",),
    "attention.dense",
    "mlp.dense_h_to_4h",
    "mlp.dense_4h_to_h",
    by_head=True,
)
MASKS = ("attention.bias", "attention.masked_bias")
NAMES = Names(
    block="gpt_neox.layers.{}.",
    embedding="gpt_neox.embed_in",
    head="embed_out",
    final_norm="gpt_neox.final_layer_norm",
)


@dataclass(frozen=True)
class GptNeoxConfig(DecoderConfig):
    """Shapes and constants of a GPT-NeoX model; ``parallel``: whether parts are side by side."""

    parallel: bool

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
        fields["attention_bias"] = flag(config, "attention_bias", True)
        return cls(**fields, parallel=flag(config, "use_parallel_residual", True))


class GptNeoxBlock(GptBlock):
    """Its two parts side by side, or one after the other; each has its own norm."""

    config: GptNeoxConfig
    layers = LAYERS

    def program(self) -> Sequence[Op]:
        """See the class."""
        return self.side_by_side(*NORMS) if self.config.parallel else super().program()


def tensors(config: GptNeoxConfig) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    attention = (*LAYERS.projections, LAYERS.output)
    return decoder_tensors(
        config,
        sites=LAYERS.sites,
        shapes=LAYERS.shapes,
        biased=LAYERS.all if config.attention_bias else set(LAYERS.all) - set(attention),
        norm_bias=True,
        names=NAMES,
        masks=MASKS,
    )


GPT_NEOX = DecoderFamily(
    "gpt_neox", GptNeoxConfig.from_dict, tensors, GptNeoxBlock, LAYER_NORM_ENDS
)
