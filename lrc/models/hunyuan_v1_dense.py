"""Hunyuan, its dense models: queries and keys are rotated, then normalised (Tencent, 2025).

Where rotary settings name an ``alpha``, theta is stretched once for all lengths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from lrc.errors import UnsupportedModelError
from lrc.models.config_reader import count, number
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_block import DecoderBlock
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_tensors import decoder_tensors, usual_norms
from lrc.models.tensors import Tensors
from lrc.nn.ops import Op

KEYS = decoder_keys(
    "hunyuan_v1_dense",
    used=("attention_bias",),
    off={
        "use_qk_norm": (None, True),
        "use_cla": (None, False),
        "use_rotary_pos_emb": (None, True),
        "position_embedding_xdrope": (None, False),
        "norm_type": (None, "hf_rms", "rms"),
        "num_experts": (None, 0, 1),
    },
    harmless={
        **dict.fromkeys(
            ("im_*", "vit_*", "anyres_*", "num_media_embeds", "mask_init_id"),
            "is of images, which are not read",
        ),
        **dict.fromkeys(
            ("add_classification_head", "class_num", "pool_type", "skip_cls_token", "dense_list"),
            "is of a classifier's head",
        ),
        **dict.fromkeys(
            ("eod_token_id", "pad_id", "text_start_id", "text_end_id"),
            "a token id, of the tokenizer and of generation",
        ),
        "attention_head_dim": "head_dim says it",
        "cla_share_factor": "is read only where layers share keys and values",
        "enable_lm_head_fp32": "the head is computed in float32 anyway",
        "org_vocab_size": "vocab_size says it",
    },
    own_code=("configuration_hunyuan", "modeling_hunyuan", "hunyuan"),
)
DEFAULTS = Defaults(bos_id=1, eps=1e-5)
NORMS = {"self_attn.query_layernorm": "q", "self_attn.key_layernorm": "k"}
#: Keys of rotary settings with an ``alpha``, beside which nothing else is read.
STRETCHED = {
    "alpha", "beta_fast", "beta_slow", "factor", "mscale", "mscale_all_dim", "rope_theta",
    "rope_type", "type",
}  # fmt: skip


@dataclass(frozen=True)
class HunyuanConfig(DecoderConfig):
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
        return cls(**decoder_fields(_stretched(config), KEYS, DEFAULTS))


def _stretched(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration with theta in place of an ``alpha`` (NTK-aware scaling, bloc97, 2023)."""
    key = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
    given = config.get(key)
    if not isinstance(given, Mapping) or not given.get("alpha"):
        return config
    if given.get("rope_type", given.get("type")) != "dynamic":
        return config
    if unknown := sorted(set(given) - STRETCHED):
        raise UnsupportedModelError(
            f"config.json: {key} has {', '.join(unknown)}, which is not known beside alpha"
        )
    implied = count(config, "hidden_size") // count(config, "num_attention_heads")
    dim = count(config, "head_dim", implied, least=4)
    theta = number(given, "rope_theta", number(config, "rope_theta", DEFAULTS.rotary.theta))
    theta *= number(given, "alpha") ** (dim / (dim - 2))
    return {**config, key: {"rope_type": "default", "rope_theta": theta}}


class HunyuanBlock(DecoderBlock):
    """A block of Llama with norms of queries and keys."""

    def positions(self) -> Sequence[Op]:
        """Rotation, then norms."""
        norms = (self.norm(key, value, value) for key, value in NORMS.items())
        return (*super().positions(), *norms)


def tensors(config: HunyuanConfig) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    norms = usual_norms(config) | dict.fromkeys(NORMS, config.head_dim)
    return decoder_tensors(config, norms=norms)


HUNYUAN_V1_DENSE = DecoderFamily("hunyuan_v1_dense", HunyuanConfig.from_dict, tensors, HunyuanBlock)
