"""Gemma 3 as it is published: the text part of a model that also sees; images are not read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from lrc.errors import UnsupportedModelError
from lrc.models import gemma3_text
from lrc.models.decoder import DecoderFamily
from lrc.models.gemma2 import ENDS
from lrc.models.gemma3_text import Gemma3Block, Gemma3TextConfig
from lrc.models.tensors import Tensors
from lrc.models.text_part import NAMES, outer_keys, text_config, within

KEYS = outer_keys("gemma3", ("mm_tokens_per_image", "boi_token_*", "eoi_token_*"))
#: What ``text_config`` leaves out in published files.
SIZES = {
    "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "vocab_size": 262208,
}  # fmt: skip


@dataclass(frozen=True)
class Gemma3Config(Gemma3TextConfig):
    """Shapes and constants of the text part."""

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
        text = text_config(config, KEYS, ("gemma3_text",), tied=True)
        read = super().from_dict(SIZES | text)
        if read.final_cap:
            raise UnsupportedModelError(
                f"config.json: final_logit_softcapping={read.final_cap} is not supported in a "
                "gemma3 model; only None is"
            )
        return read


def tensors(config: Gemma3Config) -> Tensors:
    """Every tensor of a checkpoint."""
    return within(gemma3_text.tensors(config, NAMES))


GEMMA3 = DecoderFamily("gemma3", Gemma3Config.from_dict, tensors, Gemma3Block, ENDS)
