"""Ministral: Mistral whose blocks may have a window each, as ``layer_types`` says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.config_reader import count
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_block import DecoderBlock
from lrc.models.decoder_config import DecoderConfig, decoder_fields
from lrc.models.decoder_keys import decoder_keys
from lrc.models.decoder_tensors import decoder_tensors
from lrc.models.decoder_windows import NO_WINDOWS, Windows
from lrc.models.mistral import DEFAULTS, WINDOW

KEYS = decoder_keys("ministral", used=("sliding_window",))


@dataclass(frozen=True)
class MinistralConfig(DecoderConfig):
    """Shapes and constants of a Ministral model."""

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
        windows = NO_WINDOWS
        if given["sliding_window"] is not None:
            windows = Windows(count(given, "sliding_window"), by_layer=True)
        return cls(**decoder_fields(config, KEYS, DEFAULTS, windows))


MINISTRAL = DecoderFamily("ministral", MinistralConfig.from_dict, decoder_tensors, DecoderBlock)
