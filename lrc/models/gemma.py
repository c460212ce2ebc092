"""Gemma: Llama with a wide gate, norms that multiply by 1 + weight, and a scaled embedding.

Gemma Team, 2024. The residual stream begins with sqrt(hidden) times the rows of the embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_block import DecoderBlock
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_ends import Ends, Plain, norm_and_head
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_tensors import FINAL_NORM, decoder_tensors
from lrc.models.source import Array
from lrc.nn.linear import Linear
from lrc.nn.ops import STREAM, Norm, Op, Scale

#: The gate of all Gemmas, as files name it.
GATE = "gelu_pytorch_tanh"
KEYS = decoder_keys("gemma", used=("attention_bias",), off={"hidden_activation": (None, GATE)})
DEFAULTS = Defaults(
    kv_heads=16, head_dim=256, bos_id=2, max_positions=8192, tied=True, activation=GATE
)


@dataclass(frozen=True)
class GemmaConfig(DecoderConfig):
    """Shapes and constants of a Gemma model."""

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
        named = {"hidden_act": GATE, **config}
        if named["hidden_act"] == "gelu":  # the first files, which mean the other one
            named["hidden_act"] = GATE
        return cls(**decoder_fields(named, KEYS, DEFAULTS))


@dataclass(frozen=True)
class GemmaBlock(DecoderBlock):
    """A block whose norms multiply by 1 + weight."""

    def norm(self, key: str, source: str, target: str) -> Norm:
        """RMSNorm by a weight of the block, and 1."""
        norm = super().norm(key, source, target)
        return replace(norm, weight=above_one(norm.weight))


def above_one(weight: Array) -> Array:
    """What a norm with a stored ``weight`` multiplies by: 1 + weight."""
    return weight + np.float32(1)


def scaled_embedding(config: DecoderConfig, plain: Plain) -> Sequence[Op]:
    """The rows of the embedding, times the root of their width."""
    return (Scale(STREAM, config.hidden**0.5),)


def final_norm_and_head(config: DecoderConfig, plain: Plain, head: Linear) -> Sequence[Op]:
    """RMSNorm by 1 + weight, then the head."""
    return norm_and_head(config, {**plain, FINAL_NORM: above_one(plain[FINAL_NORM])}, head)


ENDS = Ends(scaled_embedding, final_norm_and_head)
GEMMA = DecoderFamily("gemma", GemmaConfig.from_dict, decoder_tensors, GemmaBlock, ENDS)
