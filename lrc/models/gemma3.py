"""Gemma 3 as it is published: the text part of a model that also sees; images are not read."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from lrc.errors import FormatError, UnsupportedModelError
from lrc.formats.view import View
from lrc.models import gemma3_text
from lrc.models.common_keys import COMMON_HARMLESS, COMMON_OFF
from lrc.models.config_reader import ConfigKeys, flag, short
from lrc.models.decoder import DecoderFamily
from lrc.models.decoder_tensors import Names
from lrc.models.gemma2 import ENDS
from lrc.models.gemma3_text import Gemma3Block, Gemma3TextConfig
from lrc.models.tensors import Ignored, Tensors

_IMAGES = "is of images, which are not read"
KEYS = ConfigKeys(
    family="gemma3",
    used=frozenset({"model_type", "text_config", "tie_word_embeddings", "bos_token_id"}),
    off=COMMON_OFF,
    harmless=COMMON_HARMLESS
    | dict.fromkeys(("vision_config", "mm_tokens_per_image", "image_token_*"), _IMAGES)
    | dict.fromkeys(("boi_token_*", "eoi_token_*"), _IMAGES),
)
#: What ``text_config`` leaves out in published files.
SIZES = {
    "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
    "num_attention_heads": 8, "vocab_size": 262208,
}  # fmt: skip
#: Names of published files, and how transformers 5 begins them in memory.
NAMES = Names(
    block="language_model.model.layers.{}.",
    embedding="language_model.model.embed_tokens",
    head="language_model.lm_head",
    final_norm="language_model.model.norm",
)
BEGINNINGS = {
    "language_model.model.": "model.language_model.",
    "language_model.lm_head.": "lm_head.",
}
_SIGHT = re.compile(r"(model\.)?(vision_tower|multi_modal_projector)\..+")


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
        KEYS.check(config)
        text = config.get("text_config")
        if not isinstance(text, Mapping):
            raise FormatError(f"config.json: text_config={short(text)} must be an object")
        kind = text.get("model_type", "gemma3_text")
        if kind != "gemma3_text":
            raise UnsupportedModelError(
                f"config.json: text_config has model_type={short(kind)}; only gemma3_text is "
                "supported there"
            )
        above = {"tie_word_embeddings": flag(config, "tie_word_embeddings", True)}
        if "bos_token_id" in config:
            above["bos_token_id"] = config["bos_token_id"]
        read = super().from_dict(SIZES | dict(text) | above)
        if read.final_cap:
            raise UnsupportedModelError(
                f"config.json: final_logit_softcapping={read.final_cap} is not supported in a "
                "gemma3 model; only None is"
            )
        return read


def tensors(config: Gemma3Config) -> Tensors:
    """Every tensor of a checkpoint; those of the text part may have either kind of names."""
    text = gemma3_text.tensors(config, NAMES)
    read = {
        name: dataclasses.replace(tensor, layouts=_layouts(tensor.layouts or (View(name),)))
        for name, tensor in text.read.items()
    }

    def ignored(name: str) -> Ignored | None:
        if _SIGHT.fullmatch(name):
            return Ignored("only the text part is computed", told=True)
        for published, other in BEGINNINGS.items():
            if name.startswith(other):
                return text.ignored(published + name.removeprefix(other))
        return text.ignored(name)

    return Tensors(read, ignored)


def _layouts(published: Sequence[View]) -> tuple[View, ...]:
    """Each place in a published file, and the same under the other name."""
    return tuple(
        dataclasses.replace(view, stored=beginning + view.stored.removeprefix(key))
        for view in published
        for key, other in BEGINNINGS.items()
        if view.stored.startswith(key)
        for beginning in (key, other)
    )


GEMMA3 = DecoderFamily("gemma3", Gemma3Config.from_dict, tensors, Gemma3Block, ENDS)
