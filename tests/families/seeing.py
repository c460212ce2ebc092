"""Cases of models that also see: those of their text parts, beside a part for images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tiny_llama

from families import ABSENT, without_absent
from families.gemma import GEMMA3_TEXT
from families.kin import MINISTRAL3
from families.mistral import MISTRAL

Rows = dict[str, dict[str, Any]]
SIGHT = {
    "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 16, "patch_size": 4,
}  # fmt: skip


def seeing(kind: str, rows: Mapping[str, Mapping[str, Any]], sight: str, **others: Any) -> Rows:
    """Rows of whole models, from the kind and the rows of their text parts."""
    texts = {
        name: without_absent({**tiny_llama.BASE, "model_type": kind, **row})
        for name, row in rows.items()
    }
    return {
        name: {
            "text_config": text,
            "vision_config": {**SIGHT, "model_type": sight},
            "tie_word_embeddings": text.get("tie_word_embeddings", ABSENT),
            **others,
        }
        for name, text in texts.items()
    }


def with_ties(rows: Mapping[str, Mapping[str, Any]], tied: bool) -> Rows:
    """The same rows, where they are silent on ties or say otherwise."""
    return {name: {**row, "tie_word_embeddings": tied} for name, row in rows.items()}


GEMMA3: Rows = seeing(
    "gemma3_text",
    {name: {**row, "final_logit_softcapping": None} for name, row in GEMMA3_TEXT.items()},
    "siglip_vision_model",
    mm_tokens_per_image=4,
)
#: What a file means that is silent on ties depends on what lies beside it, so that none is.
MISTRAL3: Rows = {
    **seeing("mistral", with_ties(MISTRAL, False), "pixtral"),
    **seeing("ministral3", with_ties(MINISTRAL3, True), "pixtral"),
}
