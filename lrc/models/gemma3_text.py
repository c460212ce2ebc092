"""Gemma 3, its text part: blocks with a window, but each sixth one, and rotary positions of each.

Gemma Team, 2025. Queries and keys of each head are normalised instead of capped scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.config_reader import count, number
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_block import QKNormBlock
from lrc.models.decoder_config import Defaults, decoder_fields
from lrc.models.decoder_keys import NO_ROTARY, decoder_keys
from lrc.models.decoder_rope import Rotary, read_layer_ropes
from lrc.models.decoder_tensors import NAMES, Names, decoder_tensors, qk_norms
from lrc.models.decoder_windows import FULL, SLIDING, Windows
from lrc.models.gemma import GATE
from lrc.models.gemma2 import ENDS, HARMLESS, Gemma2Block, Gemma2Config, norms, soft_cap_of
from lrc.models.tensors import Tensors
from lrc.nn.rope import Rope

KEYS = decoder_keys(
    "gemma3_text",
    used=(
        "attention_bias", "query_pre_attn_scalar", "sliding_window", "sliding_window_pattern",
        "final_logit_softcapping", "rope_local_base_freq", *NO_ROTARY,
    ),
    off={"hidden_act": (None, GATE)},
    harmless={**HARMLESS, "_sliding_window_pattern": "layer_types say it"},
    spelled={**NO_ROTARY, "hidden_act": "hidden_activation"},
)  # fmt: skip
DEFAULTS = Defaults(
    kv_heads=4, head_dim=256, bos_id=2, max_positions=131072, tied=True, activation=GATE
)
ROTARIES = {FULL: Rotary(1e6), SLIDING: Rotary(1e4, theta_key="rope_local_base_freq")}
#: Where the keys are absent.
WINDOW, EVERY, SCALAR = 4096, 6, 256


@dataclass(frozen=True)
class Gemma3TextConfig(Gemma2Config):
    """Shapes and constants of such a model.

    ``rope`` is that of blocks that see all, ``local`` that of those with a window.
    """

    local: Rope

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
        width = count({"sliding_window": WINDOW, **config}, "sliding_window")
        every = count(config, "sliding_window_pattern", EVERY)
        windows = Windows(width, every=every, by_layer=True)
        fields = decoder_fields(config, KEYS, DEFAULTS, windows)
        ropes = read_layer_ropes(
            config, KEYS.family, fields["head_dim"], fields["max_positions"], ROTARIES
        )
        fields["rope"] = ropes[FULL]
        fields["scale"] = number(config, "query_pre_attn_scalar", SCALAR) ** -0.5
        final_cap = soft_cap_of(config, "final_logit_softcapping", None)
        return cls(**fields, final_cap=final_cap, local=ropes[SLIDING])


@dataclass(frozen=True)
class Gemma3Block(QKNormBlock, Gemma2Block):
    """A block of Gemma 2 with norms of queries and keys."""

    config: Gemma3TextConfig

    @property
    def rope(self) -> Rope | None:
        """Another one where there is a window."""
        return self.config.local if self.config.windows[self.index] else self.config.rope


def tensors(config: Gemma3TextConfig, names: Names = NAMES) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    return decoder_tensors(config, norms=norms(config) | qk_norms(config), names=names)


GEMMA3_TEXT = DecoderFamily("gemma3_text", Gemma3TextConfig.from_dict, tensors, Gemma3Block, ENDS)
