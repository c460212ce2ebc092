"""Qwen3: queries and keys of each head are normalised before they are rotated (Yang et al., 2025).

Windows are those of Qwen2; linear layers of attention may have a bias, all four of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_block import QKNormBlock
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_tensors import decoder_tensors, qk_norms, usual_norms
from lrc.models.qwen2 import upper_windows
from lrc.models.tensors import Tensors

KEYS = decoder_keys(
    "qwen3",
    used=("attention_bias", "use_sliding_window", "sliding_window", "max_window_layers"),
)
DEFAULTS = Defaults(kv_heads=32, head_dim=128, max_positions=32768)


@dataclass(frozen=True)
class Qwen3Config(DecoderConfig):
    """Shapes and constants of a Qwen3 model."""

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
        return cls(**decoder_fields(config, KEYS, DEFAULTS, upper_windows(config)))


def tensors(config: Qwen3Config) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    return decoder_tensors(config, norms=usual_norms(config) | qk_norms(config))


QWEN3 = DecoderFamily("qwen3", Qwen3Config.from_dict, tensors, QKNormBlock)
