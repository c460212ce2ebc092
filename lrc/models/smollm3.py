"""SmolLM3: Llama without rotary positions in some blocks (Bakouch et al., 2025)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.errors import FormatError
from lrc.models.config_reader import MOST_LAYERS, count, flag, short
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_block import DecoderBlock
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_rope import Rotary
from lrc.models.decoder_tensors import decoder_tensors
from lrc.models.decoder_windows import FULL, NO_WINDOWS, SLIDING, Windows
from lrc.nn.rope import Rope

KEYS = decoder_keys(
    "smollm3",
    used=(
        "attention_bias", "mlp_bias", "no_rope_layers", "no_rope_layer_interval",
        "use_sliding_window", "sliding_window",
    ),
)  # fmt: skip
DEFAULTS = Defaults(kv_heads=4, bos_id=128000, max_positions=32768, rotary=Rotary(2e6), tied=True)
#: Every so many blocks one is not rotated, where ``no_rope_layers`` does not say which.
INTERVAL = 4


@dataclass(frozen=True)
class SmolLM3Config(DecoderConfig):
    """Shapes and constants of a SmolLM3 model; ``rotated``: whether each block's positions are."""

    rotated: tuple[bool, ...]

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
        rotated = _rotated(config, count(config, "num_hidden_layers", most=MOST_LAYERS))
        windows = NO_WINDOWS
        given = dict(config)
        if flag(config, "use_sliding_window") and config.get("sliding_window") is not None:
            windows = Windows(count(config, "sliding_window"), by_layer=True)
            if given.get("layer_types") is None:
                given["layer_types"] = [FULL if rotates else SLIDING for rotates in rotated]
        return cls(**decoder_fields(given, KEYS, DEFAULTS, windows), rotated=rotated)


def _rotated(config: Mapping[str, Any], layers: int) -> tuple[bool, ...]:
    """Whether the positions of each block are rotated: ``no_rope_layers`` has a 0 where not."""
    given = config.get("no_rope_layers")
    if given is None:
        interval = count(config, "no_rope_layer_interval", INTERVAL)
        return tuple((i + 1) % interval != 0 for i in range(layers))
    if not isinstance(given, list) or len(given) < layers or any(v not in (0, 1) for v in given):
        raise FormatError(
            f"config.json: no_rope_layers={short(given)} must be a list of "
            f"num_hidden_layers={layers} numbers, 0 or 1"
        )
    return tuple(map(bool, given[:layers]))


@dataclass(frozen=True)
class SmolLM3Block(DecoderBlock):
    """A block of Llama, rotated or not."""

    config: SmolLM3Config

    @property
    def rope(self) -> Rope | None:
        """None in some blocks."""
        return self.config.rope if self.config.rotated[self.index] else None


SMOLLM3 = DecoderFamily("smollm3", SmolLM3Config.from_dict, decoder_tensors, SmolLM3Block)
