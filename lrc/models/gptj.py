"""GPT-J: both parts of a block read one layer norm, positions are rotated by pairs.

Wang and Komatsuzaki, 2021. The head has a bias, attention has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.config_reader import ConfigKeys
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_ends import LAYER_NORM_ENDS
from lrc.models.decoder_keys import NO_ROTARY, decoder_keys
from lrc.models.decoder_rope import Rotary, read_rope
from lrc.models.decoder_tensors import Names, Outside, decoder_tensors
from lrc.models.gpt_block import GptBlock, GptLayers
from lrc.models.gpt_keys import HARMLESS, SPELLED
from lrc.models.tensors import HEAD_BIAS, Tensors
from lrc.nn.ops import Op

OWN_HARMLESS = HARMLESS | {
    "scale_attn_weights": "scores are scaled, whatever it says",
    "rotary": "positions are rotated, whatever it says",
}
KEYS = decoder_keys(
    "gptj", used=("rotary_dim",), harmless=OWN_HARMLESS, spelled=SPELLED | NO_ROTARY
)
DEFAULTS = Defaults(bos_id=50256, eps=1e-5, widening=4, activation="gelu_new")
ROTARY = Rotary(theta_key=None, dims=64, interleaved=True)
LAYERS = GptLayers(
    ("attn.q_proj", "attn.k_proj", "attn.v_proj"), "attn.out_proj", "mlp.fc_in", "mlp.fc_out"
)
NORM = "ln_1"
BASE = "transformer."
NAMES = Names(block=BASE + "h.{}.", embedding=BASE + "wte", final_norm=BASE + "ln_f")
MASKS = ("attn.bias", "attn.masked_bias")


@dataclass(frozen=True)
class GptjConfig(DecoderConfig):
    """Shapes and constants of a GPT-J model."""

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
        return cls(**gptj_fields(config, KEYS))


def gptj_fields(config: Mapping[str, Any], keys: ConfigKeys) -> dict[str, Any]:
    """The fields of `DecoderConfig`; refuses what `decoder_fields` refuses."""
    fields = decoder_fields(config, keys, DEFAULTS)
    heads = fields["head_dim"], fields["max_positions"]
    return {**fields, "rope": read_rope(config, keys.family, *heads, ROTARY)}


class GptjBlock(GptBlock):
    """Its two parts side by side, after the same norm."""

    layers = LAYERS

    def program(self) -> Sequence[Op]:
        """See the class."""
        return self.side_by_side(NORM)


def gptj_tensors(
    config: DecoderConfig, layers: GptLayers = LAYERS, masks: Sequence[str] = MASKS
) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    return decoder_tensors(
        config,
        sites=layers.sites,
        shapes=layers.shapes,
        biased=(layers.up, layers.down),
        norms={NORM: config.hidden},
        norm_bias=True,
        names=NAMES,
        outside={HEAD_BIAS: Outside(f"{NAMES.head}.bias", (config.vocab,))},
        masks=masks,
    )


GPTJ = DecoderFamily("gptj", GptjConfig.from_dict, gptj_tensors, GptjBlock, LAYER_NORM_ENDS)
