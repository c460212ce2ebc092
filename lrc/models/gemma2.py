"""Gemma 2: soft caps, every other block with a window, norms around both parts of a block.

Gemma Team, 2024 b.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.config_reader import count, number
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_ends import Ends, Plain
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_tensors import NORMS, decoder_tensors, usual_norms
from lrc.models.decoder_windows import Windows
from lrc.models.gemma import GATE, GemmaBlock, final_norm_and_head, scaled_embedding
from lrc.models.tensors import Tensors
from lrc.nn.linear import Linear
from lrc.nn.ops import LOGITS, Op, SoftCap

USED = (
    "attention_bias", "query_pre_attn_scalar", "sliding_window", "final_logit_softcapping",
    "attn_logit_softcapping",
)  # fmt: skip
HARMLESS = {
    "cache_implementation": "says how another program keeps keys and values",
    "sliding_window_size": "sliding_window says it",
}
SPELLED = {"hidden_act": "hidden_activation"}
KEYS = decoder_keys(
    "gemma2", used=USED, off={"hidden_act": (None, GATE)}, harmless=HARMLESS, spelled=SPELLED
)
DEFAULTS = Defaults(
    kv_heads=4, head_dim=256, bos_id=2, max_positions=8192, tied=True, activation=GATE
)
#: Where the keys are absent; null is no cap.
WINDOW, SCALAR, CAP, FINAL_CAP = 4096, 256, 50.0, 30.0
#: Norms after each part of a block, and the one before the second.
AFTER_ATTENTION, BEFORE_FEED_FORWARD = "post_attention_layernorm", "pre_feedforward_layernorm"
AFTER_FEED_FORWARD = "post_feedforward_layernorm"


@dataclass(frozen=True)
class Gemma2Config(DecoderConfig):
    """Shapes and constants of a Gemma 2 model; ``final_cap``: of the logits, 0 is none."""

    final_cap: float

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
        fields = decoder_fields(config, KEYS, DEFAULTS, Windows(width, every=2, by_layer=True))
        fields["scale"] = number(config, "query_pre_attn_scalar", SCALAR) ** -0.5
        fields["cap"] = soft_cap_of(config, "attn_logit_softcapping", CAP)
        return cls(**fields, final_cap=soft_cap_of(config, "final_logit_softcapping", FINAL_CAP))


def soft_cap_of(config: Mapping[str, Any], key: str, absent: float | None) -> float:
    """Take a soft cap; 0, which is none, where the key is null."""
    given = {key: absent, **config}
    return 0.0 if given[key] is None else number(given, key)


@dataclass(frozen=True)
class Gemma2Block(GemmaBlock):
    """Attention and the feed-forward part, each between two norms."""

    norms = (NORMS[0], BEFORE_FEED_FORWARD)
    norms_after = (AFTER_ATTENTION, AFTER_FEED_FORWARD)


def norms(config: DecoderConfig) -> dict[str, int]:
    """Widths of the norms of such a block."""
    return usual_norms(config, BEFORE_FEED_FORWARD, AFTER_FEED_FORWARD)


def tensors(config: Gemma2Config) -> Tensors:
    """Every tensor of a checkpoint with this configuration."""
    return decoder_tensors(config, norms=norms(config))


def capped_logits(config: Gemma2Config, plain: Plain, head: Linear) -> Sequence[Op]:
    """RMSNorm, head, and a soft cap where there is one."""
    last = (SoftCap(LOGITS, config.final_cap),) if config.final_cap else ()
    return (*final_norm_and_head(config, plain, head), *last)


ENDS = Ends(scaled_embedding, capped_logits)
GEMMA2 = DecoderFamily("gemma2", Gemma2Config.from_dict, tensors, Gemma2Block, ENDS)
