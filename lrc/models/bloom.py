"""BLOOM: linear biases in place of positions, a norm after the embedding (Workshop, 2022).

Files say the width of the stream as ``n_embed`` or ``hidden_size``, and likewise of other sizes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.alibi import AlibiBlock
from lrc.models.config_reader import ConfigKeys
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_ends import Ends, Plain, layer_norm_and_head
from lrc.models.decoder_keys import NO_ROTARY, decoder_keys
from lrc.models.decoder_tensors import Names, Outside, decoder_tensors
from lrc.models.gpt_block import GptLayers
from lrc.models.tensors import Tensors
from lrc.nn.ops import STREAM, Norm, Op

_ORDER = "says how the same result is computed"
_UNREAD = "is not read by transformers"
#: The usual name of a key to the other one that files have; the first of them that is there counts.
EITHER = {
    "hidden_size": ("n_embed", "hidden_size"),
    "num_hidden_layers": ("n_layer", "num_hidden_layers"),
    "num_attention_heads": ("n_head", "num_attention_heads"),
}


def keys(config: Mapping[str, Any]) -> ConfigKeys:
    """Keys by the names that this file has for them."""
    spelled = {
        usual: next((name for name in names if config.get(name) is not None), usual)
        for usual, names in EITHER.items()
    }
    return decoder_keys(
        "bloom",
        off={
            "apply_residual_connection_post_layernorm": (None, False),
            "n_inner": (None,),
            "skip_bias_add": (None, True),
            "skip_bias_add_qkv": (None, False),
        },
        harmless={
            "attention_softmax_in_fp32": _ORDER,
            "masked_softmax_fusion": _ORDER,
            "bias_dropout_fusion": _ORDER,
            "slow_but_exact": _ORDER,
            "offset_alibi": _UNREAD,
        },
        spelled={
            **NO_ROTARY,
            **spelled,
            "max_position_embeddings": "seq_length",
            "rms_norm_eps": "layer_norm_epsilon",
            "intermediate_size": None,
            "hidden_act": None,
            "num_key_value_heads": None,
            "head_dim": None,
        },
    )


KEYS = keys({})
DEFAULTS = Defaults(bos_id=1, eps=1e-5, tied=True, widening=4, activation="gelu_new")
LAYERS = GptLayers(
    ("self_attention.query_key_value",),
    "self_attention.dense",
    "mlp.dense_h_to_4h",
    "mlp.dense_4h_to_h",
    by_head=True,
)
BASE = "transformer."
NAMES = Names(
    block=BASE + "h.{}.", embedding=BASE + "word_embeddings", final_norm=BASE + "ln_f", base=BASE
)
FIRST_NORM = "first_norm"


@dataclass(frozen=True)
class BloomConfig(DecoderConfig):
    """Shapes and constants of a BLOOM model."""

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
        return cls(**decoder_fields(config, keys(config), DEFAULTS))


class BloomBlock(AlibiBlock):
    """Its two parts one after the other."""

    layers = LAYERS


def tensors(config: BloomConfig) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    first = BASE + "word_embeddings_layernorm"
    return decoder_tensors(
        config,
        sites=LAYERS.sites,
        shapes=LAYERS.shapes,
        biased=LAYERS.all,
        norm_bias=True,
        names=NAMES,
        outside={
            FIRST_NORM: Outside(f"{first}.weight", (config.hidden,)),
            f"{FIRST_NORM}.bias": Outside(f"{first}.bias", (config.hidden,)),
        },
    )


def _first_norm(config: BloomConfig, plain: Plain) -> Sequence[Op]:
    weight, bias = plain[FIRST_NORM], plain[f"{FIRST_NORM}.bias"]
    return (Norm(weight, STREAM, STREAM, config.eps, "layer", bias),)


BLOOM = DecoderFamily(
    "bloom", BloomConfig.from_dict, tensors, BloomBlock, Ends(_first_norm, layer_norm_and_head)
)
