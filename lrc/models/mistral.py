"""Mistral: Llama whose blocks all see a window of the last tokens (Jiang et al., 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.config_reader import count
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_block import DecoderBlock
from lrc.models.decoder_config import DecoderConfig, Defaults, decoder_fields
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_tensors import decoder_tensors
from lrc.models.decoder_windows import Windows

_ALL = "sliding_window alone says whether all blocks have a window"
KEYS = decoder_keys(
    "mistral",
    used=("sliding_window",),
    harmless={"use_sliding_window": _ALL, "max_window_layers": _ALL},
)
DEFAULTS = Defaults(kv_heads=8, bos_id=1, max_positions=131072)
#: Where the key is absent; null is no window.
WINDOW = 4096


@dataclass(frozen=True)
class MistralConfig(DecoderConfig):
    """Shapes and constants of a Mistral model."""

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
        given = {"sliding_window": WINDOW, **config}
        window = 0 if given["sliding_window"] is None else count(given, "sliding_window")
        return cls(**decoder_fields(config, KEYS, DEFAULTS, Windows(window)))


MISTRAL = DecoderFamily("mistral", MistralConfig.from_dict, decoder_tensors, DecoderBlock)
