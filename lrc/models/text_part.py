"""A text model within one that also sees: what its configuration and its tensors are called."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lrc.errors import FormatError, UnsupportedModelError
from lrc.formats.view import View
from lrc.models.common_keys import COMMON_HARMLESS, COMMON_OFF
from lrc.models.config_reader import ConfigKeys, flag, short
from lrc.models.decoder_tensors import Names
from lrc.models.tensors import Ignored, Tensors

#: Names in published files, and how transformers 5 begins them in memory.
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
_IMAGES = "is of images, which are not read"


def outer_keys(family: str, images: Collection[str]) -> ConfigKeys:
    """Keys of the whole model's configuration; ``images`` are those that say nothing of text."""
    return ConfigKeys(
        family=family,
        used=frozenset({"model_type", "text_config", "tie_word_embeddings", "bos_token_id"}),
        off=COMMON_OFF,
        harmless=COMMON_HARMLESS
        | dict.fromkeys(("vision_config", "image_token_*", *images), _IMAGES),
    )


def text_config(
    config: Mapping[str, Any], keys: ConfigKeys, kinds: Sequence[str], tied: bool
) -> dict[str, Any]:
    """The configuration of the text part, with what the one around it says of text.

    Parameters
    ----------
    config : mapping
        Of the whole model.
    keys : ConfigKeys
        All that are known of it.
    kinds : sequence of str
        Values of ``model_type`` that a text part may have; the first one is that of a silent one.
    tied : bool
        Whether the head is the embedding, where the whole model's configuration is silent.

    Raises
    ------
    FormatError
        When there is no text part.
    UnsupportedModelError
        When a key is not known, or the text part is of another kind.
    """
    keys.check(config)
    text = config.get("text_config")
    if not isinstance(text, Mapping):
        raise FormatError(f"config.json: text_config={short(text)} must be an object")
    kind = text.get("model_type", kinds[0])
    if kind not in kinds:
        raise UnsupportedModelError(
            f"config.json: text_config has model_type={short(kind)}; only {' or '.join(kinds)} is "
            "supported there"
        )
    above = {"model_type": kind, "tie_word_embeddings": flag(config, "tie_word_embeddings", tied)}
    if "bos_token_id" in config:
        above["bos_token_id"] = config["bos_token_id"]
    return {**text, **above}


def within(text: Tensors) -> Tensors:
    """Every tensor of the whole model's checkpoint, from those of its text part under `NAMES`.

    A file may have either kind of names; what sees is not read, and told.
    """
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
