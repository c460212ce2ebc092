"""Qwen3-MoE: Qwen3 with mixtures of experts in some blocks (Yang et al., 2025).

Where ``use_sliding_window`` is true, all blocks see a window of the last tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.config_reader import count, flag
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_block import QKNormBlock
from lrc.models.decoder_config import Defaults, decoder_fields
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_tensors import decoder_tensors, qk_norms, usual_norms
from lrc.models.decoder_windows import NO_WINDOWS, Windows
from lrc.models.expert_keys import EACH, ONLY_DENSE, STEP, dense_blocks, expert_counts
from lrc.models.experts import ATTENTION, Experts, MoeBlock, MoeConfig
from lrc.models.qwen2 import WINDOW
from lrc.models.tensors import Tensors

#: Both names of how many experts there are: that of released files, and that of saved ones.
_COUNT = ("num_experts", "num_local_experts")
KEYS = decoder_keys(
    "qwen3_moe",
    used=(
        *("attention_bias", "use_sliding_window", "sliding_window"),
        *("moe_intermediate_size", "norm_topk_prob", *_COUNT, EACH, STEP, ONLY_DENSE),
    ),
    harmless={"max_window_layers": "all blocks have a window, or none"},
)
DEFAULTS = Defaults(kv_heads=4, max_positions=32768)
#: Experts, how many of them compute a token, and their width, where keys are absent.
EXPERTS, TOP, WIDTH = 128, 8, 768


@dataclass(frozen=True)
class Qwen3MoeConfig(MoeConfig):
    """Shapes and constants of a Qwen3-MoE model."""

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
        experts, top = expert_counts(config, _COUNT, EXPERTS, TOP)
        mixture = Experts(
            experts,
            top,
            count(config, "moe_intermediate_size", WIDTH),
            normalised=flag(config, "norm_topk_prob"),
        )
        return cls(**fields, experts=mixture, dense=dense_blocks(config, fields["layers"]))


def _windows(config: Mapping[str, Any]) -> Windows:
    given = {"sliding_window": WINDOW, **config}
    if not flag(config, "use_sliding_window") or given["sliding_window"] is None:
        return NO_WINDOWS
    return Windows(count(given, "sliding_window"))


class Qwen3MoeBlock(QKNormBlock, MoeBlock):
    """Norms of queries and keys as in Qwen3, and experts."""


def tensors(config: Qwen3MoeConfig) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    norms = usual_norms(config) | qk_norms(config)
    return decoder_tensors(config, sites=ATTENTION, norms=norms, more=config.feed_forward)


QWEN3_MOE = DecoderFamily("qwen3_moe", Qwen3MoeConfig.from_dict, tensors, Qwen3MoeBlock)
