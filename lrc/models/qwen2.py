"""Qwen2 and Qwen2.5: Llama with a bias on queries, keys and values (Yang et al., 2024).

Where ``use_sliding_window`` is true, the upper blocks see a window of the last tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.config_reader import count, flag
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_block import DecoderBlock
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_tensors import decoder_tensors
from lrc.models.decoder_windows import NO_WINDOWS, Windows
from lrc.models.tensors import Tensors

_FIXED = "queries, keys and values have a bias and the output has none, whatever it says"
KEYS = decoder_keys(
    "qwen2",
    used=("use_sliding_window", "sliding_window", "max_window_layers"),
    harmless={"attention_bias": _FIXED, "qkv_bias": _FIXED},
)
DEFAULTS = Defaults(kv_heads=32, max_positions=32768)
#: Tokens of a window, and the first block that has one, where the keys are absent.
WINDOW, FIRST_WINDOWED = 4096, 28
BIASED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")


@dataclass(frozen=True)
class Qwen2Config(DecoderConfig):
    """Shapes and constants of a Qwen2 model."""

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


def upper_windows(config: Mapping[str, Any]) -> Windows:
    """None unless ``use_sliding_window`` is true and ``sliding_window`` is not null."""
    given = {"sliding_window": WINDOW, **config}
    if not flag(config, "use_sliding_window") or given["sliding_window"] is None:
        return NO_WINDOWS
    width = count(given, "sliding_window")
    return Windows(width, count(config, "max_window_layers", FIRST_WINDOWED, 0), by_layer=True)


def tensors(config: Qwen2Config) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    return decoder_tensors(config, biased=BIASED)


QWEN2 = DecoderFamily("qwen2", Qwen2Config.from_dict, tensors, DecoderBlock)
