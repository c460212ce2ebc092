"""Mistral Small 3.1 and later, and Ministral 3: the text part of a model that also sees.

Images are not read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_tensors import decoder_tensors
from lrc.models.ministral3 import Ministral3Block, Ministral3Config
from lrc.models.mistral import MistralConfig
from lrc.models.tensors import Tensors
from lrc.models.text_part import NAMES, outer_keys, text_config, within

KEYS = outer_keys(
    "mistral3",
    (
        "projector_hidden_act", "vision_feature_layer", "multimodal_projector_bias",
        "spatial_merge_size",
    ),
)  # fmt: skip
KINDS = ("mistral", "ministral3")


@dataclass(frozen=True)
class Mistral3Config(Ministral3Config):
    """Shapes and constants of the text part; those of Mistral have no growth of queries."""

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
        # Published files that are silent on ties have a head of their own.
        text = text_config(config, KEYS, KINDS, tied=False)
        if text["model_type"] == "ministral3":
            return super().from_dict(text)
        read = MistralConfig.from_dict(text)
        return cls(**{f.name: getattr(read, f.name) for f in dataclasses.fields(read)})


def tensors(config: Mistral3Config) -> Tensors:
    """Every tensor of a checkpoint."""
    return within(decoder_tensors(config, names=NAMES))


MISTRAL3 = DecoderFamily("mistral3", Mistral3Config.from_dict, tensors, Ministral3Block)
