"""MPT: linear biases in place of positions, no bias anywhere (MosaicML, 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.errors import FormatError
from lrc.models.alibi import AlibiBlock
from lrc.models.common_keys import COMMON_HARMLESS
from lrc.models.config_reader import ConfigKeys, number, short
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_ends import LAYER_NORM_ENDS
from lrc.models.decoder_keys import NO_ROTARY, decoder_keys
from lrc.models.decoder_tensors import Names, decoder_tensors
from lrc.models.gpt_block import GptLayers
from lrc.models.tensors import Tensors

_UNREAD = "is not read by transformers"
_ORDER = "says how the same result is computed"
KEYS = decoder_keys(
    "mpt",
    used=("attn_config",),
    off={
        "expansion_ratio": (4,),
        "no_bias": (True,),
        "logit_scale": (None,),
        "norm_type": ("low_precision_layernorm", "layernorm"),
    },
    harmless={
        "learned_pos_emb": "positions are linear biases of attention, whatever it says",
        "emb_pdrop": "is for training",
        "embedding_fraction": "is for training",
        "init_config": "is for training",
        "init_device": _ORDER,
        "tokenizer_name": "says where the file comes from",
        "verbose": _ORDER,
    },
    spelled={
        **NO_ROTARY,
        "hidden_size": "d_model",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "max_position_embeddings": "max_seq_len",
        "rms_norm_eps": "layer_norm_epsilon",
        "intermediate_size": None,
        "hidden_act": None,
        "num_key_value_heads": None,
        "head_dim": None,
    },
    own_code=("configuration_mpt", "modeling_mpt"),
)
#: Keys of ``attn_config``.
ATTENTION_KEYS = ConfigKeys(
    family="mpt",
    used=frozenset({"softmax_scale"}),
    off={
        "alibi": (True,),
        "alibi_bias_max": (8,),
        "attn_type": ("multihead_attention",),
        "clip_qkv": (None,),
        "prefix_lm": (None, False),
        "qk_ln": (None, False),
        "attn_uses_sequence_id": (None, False),
    },
    harmless={
        **COMMON_HARMLESS,
        "attn_impl": _ORDER,
        "model_type": _UNREAD,
        "is_encoder_decoder": _UNREAD,
        "cross_attention_hidden_size": _UNREAD,
        "add_cross_attention": _UNREAD,
    },
    file="config.json: attn_config",
)
DEFAULTS = Defaults(eps=1e-5, tied=True, widening=4, activation="gelu")
LAYERS = GptLayers(("attn.Wqkv",), "attn.out_proj", "ffn.up_proj", "ffn.down_proj")
NORMS = ("norm_1", "norm_2")
BASE = "transformer."
NAMES = Names(
    block=BASE + "blocks.{}.", embedding=BASE + "wte", final_norm=BASE + "norm_f", base=BASE
)


@dataclass(frozen=True)
class MptConfig(DecoderConfig):
    """Shapes and constants of an MPT model."""

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
        attention = config.get("attn_config") or {}
        if not isinstance(attention, Mapping):
            raise FormatError(f"config.json: attn_config={short(attention)} must be an object")
        ATTENTION_KEYS.check(attention)
        usual = fields["head_dim"] ** -0.5
        return cls(**{**fields, "scale": number(attention, "softmax_scale", usual)})


class MptBlock(AlibiBlock):
    """Its two parts one after the other."""

    layers = LAYERS
    norms = NORMS


def tensors(config: MptConfig) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    return decoder_tensors(
        config,
        sites=LAYERS.sites,
        shapes=LAYERS.shapes,
        biased=(),
        norms=dict.fromkeys(NORMS, config.hidden),
        names=NAMES,
    )


MPT = DecoderFamily("mpt", MptConfig.from_dict, tensors, MptBlock, LAYER_NORM_ENDS)
