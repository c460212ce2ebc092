"""Falcon: both parts of a block side by side, a fused matrix (Almazrouei et al., 2023).

Key heads are one, as many as query heads, or, in the later architecture, some of each; this one
may have a norm for each part. A block may also have its parts one after the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from lrc.errors import FormatError, UnsupportedModelError
from lrc.models.config_reader import count, flag
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_ends import LAYER_NORM_ENDS
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_tensors import NORMS, Names, decoder_tensors
from lrc.models.gpt_block import GptBlock, GptLayers
from lrc.models.tensors import Tensors
from lrc.nn.ops import Op

KEYS = decoder_keys(
    "falcon",
    used=(
        "bias",
        "multi_query",
        "new_decoder_architecture",
        "num_kv_heads",
        "num_ln_in_parallel_attn",
        "parallel_attn",
    ),
    off={"alibi": (None, False)},
    harmless={
        "apply_residual_connection_post_layernorm": "is not read by transformers",
        "ff_factor": "ffn_hidden_size is the width of the feed-forward part",
    },
    spelled={
        "intermediate_size": "ffn_hidden_size",
        "hidden_act": "activation",
        "rms_norm_eps": "layer_norm_epsilon",
        "num_key_value_heads": None,
        "head_dim": None,
    },
    own_code=("configuration_falcon", "modeling_falcon"),
)
DEFAULTS = Defaults(bos_id=11, eps=1e-5, tied=True, widening=4, activation="gelu")
LAYERS = GptLayers(
    ("self_attention.query_key_value",),
    "self_attention.dense",
    "mlp.dense_h_to_4h",
    "mlp.dense_4h_to_h",
    by_head=True,
)
#: Norms of two parts side by side, where each has its own.
TWO = ("ln_attn", "ln_mlp")
BASE = "transformer."
NAMES = Names(
    block=BASE + "h.{}.", embedding=BASE + "word_embeddings", final_norm=BASE + "ln_f", base=BASE
)


@dataclass(frozen=True)
class FalconConfig(DecoderConfig):
    """Shapes and constants of a Falcon model.

    ``bias``: of all linear layers. ``parallel``: whether the parts of a block are side by side.
    ``norms``: of a block.
    """

    bias: bool
    parallel: bool
    norms: tuple[str, ...]

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
        fields["kv_heads"] = _key_heads(config, fields["heads"])
        parallel = flag(config, "parallel_attn", True)
        if flag(config, "new_decoder_architecture") and not parallel:
            raise UnsupportedModelError(
                "config.json: parallel_attn=False is not supported with new_decoder_architecture"
            )
        norms = _norms(config) if parallel else NORMS
        return cls(**fields, bias=flag(config, "bias"), parallel=parallel, norms=norms)


def _key_heads(config: Mapping[str, Any], heads: int) -> int:
    if flag(config, "new_decoder_architecture"):
        shared = count(config, "num_kv_heads", heads)
        if heads % shared:
            raise FormatError(
                f"config.json: num_attention_heads={heads} must be a multiple of "
                f"num_kv_heads={shared}"
            )
        return shared
    return 1 if flag(config, "multi_query", True) else heads


def _norms(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Norms of two parts side by side."""
    new = flag(config, "new_decoder_architecture")
    norms = count(config, "num_ln_in_parallel_attn", 2 if new else 1)
    if norms > (2 if new else 1):
        raise UnsupportedModelError(
            f"config.json: num_ln_in_parallel_attn={norms} is not supported with "
            f"new_decoder_architecture={new}"
        )
    return TWO if norms == 2 else NORMS[:1]


class FalconBlock(GptBlock):
    """Its two parts side by side, or one after the other."""

    config: FalconConfig
    layers = LAYERS

    def program(self) -> Sequence[Op]:
        """See the class."""
        if self.config.parallel:
            return self.side_by_side(*self.config.norms)
        return super().program()


def tensors(config: FalconConfig) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    return decoder_tensors(
        config,
        sites=LAYERS.sites,
        shapes=LAYERS.shapes,
        biased=LAYERS.all if config.bias else (),
        norms=dict.fromkeys(config.norms, config.hidden),
        norm_bias=True,
        names=NAMES,
    )


FALCON = DecoderFamily("falcon", FalconConfig.from_dict, tensors, FalconBlock, LAYER_NORM_ENDS)
