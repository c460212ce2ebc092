"""GPT-BigCode, which StarCoder and SantaCoder are: GPT-2 whose heads share keys (Li et al., 2023).

Matrices are stored as linear layers have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from lrc.models.config_reader import flag
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_keys import NO_ROTARY, decoder_keys
from lrc.models.gpt2 import ENDS, NORMS, gpt2_tensors
from lrc.models.gpt2 import LAYERS as GPT2_LAYERS
from lrc.models.gpt_block import GptBlock
from lrc.models.gpt_keys import HARMLESS, SPELLED
from lrc.models.tensors import Tensors

_ORDER = "says how the same result is computed"
KEYS = decoder_keys(
    "gpt_bigcode",
    used=("scale_attn_weights", "multi_query"),
    harmless={
        **HARMLESS,
        "num_key_value_heads": "multi_query says how many there are",
        "attention_softmax_in_fp32": _ORDER,
        "scale_attention_softmax_in_fp32": _ORDER,
        "inference_runner": _ORDER,
        "validate_runner_input": _ORDER,
        "pre_allocate_kv_cache": _ORDER,
        "max_sequence_length": _ORDER,
        "max_batch_size": _ORDER,
        "pad_key_length": _ORDER,
    },
    spelled=SPELLED | NO_ROTARY,
)
DEFAULTS = Defaults(
    bos_id=50256,
    max_positions=1024,
    eps=1e-5,
    tied=True,
    widening=4,
    activation="gelu_pytorch_tanh",
)
LAYERS = replace(GPT2_LAYERS, by_head=True)


@dataclass(frozen=True)
class GptBigcodeConfig(DecoderConfig):
    """Shapes and constants of a GPT-BigCode model."""

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
        if flag(config, "multi_query", True):
            fields["kv_heads"] = 1
        return cls(**fields, scale=None if flag(config, "scale_attn_weights", True) else 1.0)


class GptBigcodeBlock(GptBlock):
    """Its two parts one after the other."""

    layers = LAYERS
    norms = NORMS


def tensors(config: GptBigcodeConfig) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    return gpt2_tensors(config)


GPT_BIGCODE = DecoderFamily(
    "gpt_bigcode", GptBigcodeConfig.from_dict, tensors, GptBigcodeBlock, ENDS
)
