"""Qwen1.5-MoE and Qwen2-MoE: Qwen2 with mixtures of experts, one of which computes every token.

In some blocks the feed-forward part is that of Qwen2 (Yang et al., 2024).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.config_reader import count, flag
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_config import Defaults, decoder_fields
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_tensors import decoder_tensors
from lrc.models.decoder_windows import NO_WINDOWS, Windows
from lrc.models.expert_keys import EACH, ONLY_DENSE, STEP, dense_blocks, expert_counts
from lrc.models.experts import ATTENTION, Experts, MoeBlock, MoeConfig
from lrc.models.qwen2 import BIASED, FIRST_WINDOWED, WINDOW
from lrc.models.tensors import Tensors

KEYS = decoder_keys(
    "qwen2_moe",
    used=(
        *("use_sliding_window", "sliding_window", "max_window_layers", "qkv_bias"),
        *("num_experts", "moe_intermediate_size", "shared_expert_intermediate_size"),
        *("norm_topk_prob", EACH, STEP, ONLY_DENSE),
    ),
    harmless={"attention_bias": "qkv_bias alone says which layers of attention have a bias"},
)
DEFAULTS = Defaults(kv_heads=16, max_positions=32768)
#: Experts, how many of them compute a token, their width and the shared one's, where keys are
#: absent.
EXPERTS, TOP, WIDTH, SHARED = 60, 4, 1408, 5632


@dataclass(frozen=True)
class Qwen2MoeConfig(MoeConfig):
    """Shapes and constants of a Qwen2-MoE model; ``biased``: queries, keys and values."""

    biased: bool

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
        fields = decoder_fields(config, KEYS, DEFAULTS, _windows(config))
        experts, top = expert_counts(config, ("num_experts",), EXPERTS, TOP)
        mixture = Experts(
            experts,
            top,
            count(config, "moe_intermediate_size", WIDTH),
            normalised=flag(config, "norm_topk_prob"),
            shared=count(config, "shared_expert_intermediate_size", SHARED),
        )
        return cls(
            **fields,
            experts=mixture,
            dense=dense_blocks(config, fields["layers"]),
            biased=flag(config, "qkv_bias", True),
        )


def _windows(config: Mapping[str, Any]) -> Windows:
    """In every other block of the lower ones, where ``use_sliding_window`` is true."""
    if not flag(config, "use_sliding_window"):
        return NO_WINDOWS
    width = count({"sliding_window": WINDOW, **config}, "sliding_window")
    stop = count(config, "max_window_layers", FIRST_WINDOWED, 0)
    return Windows(width, stop=stop, every=2, by_layer=True)


def tensors(config: Qwen2MoeConfig) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    biased = BIASED if config.biased else ()
    return decoder_tensors(config, sites=ATTENTION, biased=biased, more=config.feed_forward)


QWEN2_MOE = DecoderFamily("qwen2_moe", Qwen2MoeConfig.from_dict, tensors, MoeBlock)
