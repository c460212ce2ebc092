"""Ministral 3: Mistral whose queries grow with the logarithm of the position (Mistral AI, 2025)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from lrc.errors import FormatError
from lrc.models.config_reader import count, number, short
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_block import DecoderBlock
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_tensors import decoder_tensors
from lrc.models.decoder_windows import NO_WINDOWS, Windows
from lrc.nn.ops import Op, Rotate
from lrc.nn.rope import NO_GROWTH, Growth

KEYS = decoder_keys("ministral3", used=("sliding_window",))
DEFAULTS = Defaults(kv_heads=8, head_dim=128, bos_id=1, max_positions=262144, eps=1e-5)
#: Rotary settings of a file that has none; in those of others, the last two keys stand beside what
#: rotates.
ROTARY = {
    "rope_type": "yarn", "rope_theta": 1e6, "factor": 16.0, "beta_fast": 32.0, "beta_slow": 1.0,
    "original_max_position_embeddings": 16384, "mscale": 1.0, "mscale_all_dim": 1.0,
    "llama_4_scaling_beta": 0.1,
}  # fmt: skip
BETA, UNREAD = "llama_4_scaling_beta", "max_position_embeddings"


@dataclass(frozen=True)
class Ministral3Config(DecoderConfig):
    """Shapes and constants of a Ministral 3 model; ``growth``: of queries."""

    growth: Growth = NO_GROWTH

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
        key = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
        rotary = config.get(key)
        rotary = ROTARY if rotary is None else rotary
        if not isinstance(rotary, Mapping):
            raise FormatError(f"config.json: {key}={short(rotary)} must be an object")
        turning = {name: value for name, value in rotary.items() if name not in (BETA, UNREAD)}
        windows = NO_WINDOWS
        if config.get("sliding_window") is not None:
            windows = Windows(count(config, "sliding_window"))
        fields = decoder_fields({**config, key: turning}, KEYS, DEFAULTS, windows)
        if rotary.get(BETA) is None:
            return cls(**fields)
        step = count(rotary, "original_max_position_embeddings", fields["max_positions"])
        return cls(**fields, growth=Growth(number(rotary, BETA), step))


class Ministral3Block(DecoderBlock):
    """A block of Mistral."""

    config: Ministral3Config

    def positions(self) -> Sequence[Op]:
        """Rotation, in which queries grow."""
        rope, head_dim = self.rope, self.config.head_dim
        assert rope is not None
        grown = replace(rope, growth=self.config.growth)
        return Rotate("q", grown, head_dim), Rotate("k", rope, head_dim)


MINISTRAL3 = DecoderFamily(
    "ministral3", Ministral3Config.from_dict, decoder_tensors, Ministral3Block
)
