"""Cohere's Command R7B and A: Command R whose blocks have a window, but each fourth one.

Only blocks with a window are rotated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.cohere import ENDS, SCALE, CohereBlock, CohereConfig, tensors
from lrc.models.config_reader import count, number
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_config import Defaults, decoder_fields
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_rope import Rotary
from lrc.models.decoder_windows import Windows
from lrc.nn.rope import Rope

KEYS = decoder_keys(
    "cohere2",
    used=("attention_bias", "logit_scale", "sliding_window", "sliding_window_pattern"),
    off={
        "order_of_interleaved_layers": (None, "local_attn_first"),
        "position_embedding_type": (None, "rope_gptj"),
        "use_embedding_sharing": (None, True),
        "use_gated_activation": (None, True),
        "use_parallel_block": (None, True),
    },
    harmless={
        "head_dim": "is the width of the stream, shared among all heads, whatever it says",
        "layer_switch": "sliding_window_pattern or layer_types say it",
        "cache_implementation": "says how another program keeps keys and values",
        "use_parallel_embedding": "says how another program shares out its work",
    },
    spelled={"rms_norm_eps": "layer_norm_eps", "head_dim": None},
)
DEFAULTS = Defaults(
    bos_id=5, max_positions=8192, eps=1e-5, rotary=Rotary(interleaved=True), tied=True
)
#: Where the keys are absent.
WINDOW, EVERY = 4096, 4


@dataclass(frozen=True)
class Cohere2Config(CohereConfig):
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
        width = count({"sliding_window": WINDOW, **config}, "sliding_window")
        every = count(config, "sliding_window_pattern", EVERY)
        return cls(
            **decoder_fields(config, KEYS, DEFAULTS, Windows(width, every=every, by_layer=True)),
            logit_scale=number(config, "logit_scale", SCALE),
        )


@dataclass(frozen=True)
class Cohere2Block(CohereBlock):
    """A block with a window and rotary positions, or without both."""

    @property
    def rope(self) -> Rope | None:
        """None in blocks that see all."""
        return self.config.rope if self.config.windows[self.index] else None


COHERE2 = DecoderFamily("cohere2", Cohere2Config.from_dict, tensors, Cohere2Block, ENDS)
