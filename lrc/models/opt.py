"""OPT: learned positions, layer norms before both parts, ReLU (Zhang et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from lrc.errors import UnsupportedModelError
from lrc.models.config_reader import count, flag
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_ends import Ends, Plain, layer_norm_and_head
from lrc.models.decoder_keys import NO_ROTARY, decoder_keys
from lrc.models.decoder_tensors import Names, Outside, decoder_tensors
from lrc.models.gpt_block import GptBlock, GptLayers
from lrc.models.tensors import Tensors
from lrc.nn.ops import AddPositions, Op

KEYS = decoder_keys(
    "opt",
    used=("enable_bias", "word_embed_proj_dim"),
    off={
        "do_layer_norm_before": (True,),
        "_remove_final_layer_norm": (None, False),
        "layer_norm_elementwise_affine": (True,),
    },
    harmless={
        "layerdrop": "is for training",
        "activation_dropout": "is for training",
    },
    spelled={
        **NO_ROTARY,
        "hidden_act": "activation_function",
        "intermediate_size": "ffn_dim",
        "num_key_value_heads": None,
        "head_dim": None,
        "rms_norm_eps": None,
    },
)
DEFAULTS = Defaults(bos_id=2, eps=1e-5, tied=True, activation="relu")
LAYERS = GptLayers(
    ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "self_attn.out_proj", "fc1", "fc2"
)
NORMS = ("self_attn_layer_norm", "final_layer_norm")
NAMES = Names(
    block="model.decoder.layers.{}.",
    embedding="model.decoder.embed_tokens",
    final_norm="model.decoder.final_layer_norm",
    base="model.",
)
POSITIONS = "positions"
#: Rows of the table of positions before that of the first token.
OFFSET = 2


@dataclass(frozen=True)
class OptConfig(DecoderConfig):
    """Shapes and constants of an OPT model; ``bias``: of every linear layer."""

    bias: bool

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
        read = cls(
            **decoder_fields(config, KEYS, DEFAULTS),
            bias=flag(config, "enable_bias", True),
        )
        width = count(config, "word_embed_proj_dim", read.hidden)
        if width != read.hidden:
            raise UnsupportedModelError(
                f"config.json: word_embed_proj_dim={width} is not supported; only "
                f"hidden_size={read.hidden} is"
            )
        return read


class OptBlock(GptBlock):
    """Its two parts one after the other."""

    layers = LAYERS
    norms = NORMS


def tensors(config: OptConfig) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    rows = (config.max_positions + OFFSET, config.hidden)
    return decoder_tensors(
        config,
        sites=LAYERS.sites,
        shapes=LAYERS.shapes,
        biased=LAYERS.all if config.bias else (),
        norms=dict.fromkeys(NORMS, config.hidden),
        norm_bias=True,
        names=NAMES,
        outside={POSITIONS: Outside("model.decoder.embed_positions.weight", rows)},
    )


def _positions(config: OptConfig, plain: Plain) -> Sequence[Op]:
    return (AddPositions(plain[POSITIONS], OFFSET),)


OPT = DecoderFamily(
    "opt", OptConfig.from_dict, tensors, OptBlock, Ends(_positions, layer_norm_and_head)
)
