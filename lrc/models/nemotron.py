"""Nemotron and Minitron: squared ReLU, layer norms by 1 + weight (Parmar et al., 2024)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_ends import Ends, Plain, layer_norm_and_head
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_rope import Rotary
from lrc.models.decoder_tensors import FINAL_NORM, decoder_tensors
from lrc.models.gemma import above_one
from lrc.models.gpt_block import GptBlock, GptLayers
from lrc.models.tensors import Tensors
from lrc.nn.linear import Linear
from lrc.nn.ops import Norm, Op

KEYS = decoder_keys(
    "nemotron",
    used=("attention_bias", "mlp_bias", "partial_rotary_factor"),
    spelled={"rms_norm_eps": "norm_eps"},
)
DEFAULTS = Defaults(
    bos_id=2, max_positions=4096, eps=1e-5, rotary=Rotary(partial=0.5), activation="relu2"
)
ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
LAYERS = GptLayers(ATTENTION, "self_attn.o_proj", "mlp.up_proj", "mlp.down_proj")


@dataclass(frozen=True)
class NemotronConfig(DecoderConfig):
    """Shapes and constants of a Nemotron model."""

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


class NemotronBlock(GptBlock):
    """Its two parts one after the other; norms multiply by 1 + weight."""

    layers = LAYERS

    def norm(self, key: str, source: str, target: str) -> Norm:
        """Layer norm by a weight of the block, and 1."""
        norm = super().norm(key, source, target)
        return replace(norm, weight=above_one(norm.weight))


def tensors(config: NemotronConfig) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    attention = (*ATTENTION, LAYERS.output) if config.attention_bias else ()
    feed_forward = (LAYERS.up, LAYERS.down) if config.mlp_bias else ()
    return decoder_tensors(
        config,
        sites=LAYERS.sites,
        shapes=LAYERS.shapes,
        biased=(*attention, *feed_forward),
        norm_bias=True,
    )


def _final_norm_and_head(config: NemotronConfig, plain: Plain, head: Linear) -> Sequence[Op]:
    weight = above_one(plain[FINAL_NORM])
    return layer_norm_and_head(config, {**plain, FINAL_NORM: weight}, head)


NEMOTRON = DecoderFamily(
    "nemotron",
    NemotronConfig.from_dict,
    tensors,
    NemotronBlock,
    Ends(after=_final_norm_and_head),
)
