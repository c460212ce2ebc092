"""Gemma 3 as published: a text part within, under two kinds of names, beside one for images."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from model_families import FAMILIES
from random_weights import MemorySource

from lrc.errors import FormatError, UnsupportedModelError
from lrc.models import load_model
from lrc.models.gemma3 import GEMMA3

CASES = FAMILIES["gemma3"]
IDS = np.arange(20)[None]
#: Names of published files, of transformers 5 in memory, and of the text part alone.
BODIES = ("language_model.model.", "model.language_model.", "model.")
HEADS = ("language_model.lm_head.", "lm_head.", "lm_head.")


def named(case: str, kind: int) -> MemorySource:
    """A case's weights, under another kind of names."""
    source = CASES[case].source(3)

    def name(published: str) -> str:
        other = published.replace(BODIES[0], BODIES[kind])
        return other.replace(HEADS[0], HEADS[kind])

    return MemorySource(source.config, {name(k): v for k, v in source.weights.items()})


@pytest.mark.parametrize("case", ["every_other", "chosen_windows"])
def test_both_kinds_of_names_are_one_model(case: str) -> None:
    models = [load_model(named(case, kind)) for kind in (0, 1)]
    assert models[0].notes == models[1].notes == ()
    np.testing.assert_array_equal(models[0].logits(IDS), models[1].logits(IDS))
    alone = named(case, 2)
    text = {**alone.config["text_config"], "tie_word_embeddings": case == "every_other"}
    text_part = load_model(MemorySource(text, alone.weights))
    np.testing.assert_array_equal(models[0].logits(IDS), text_part.logits(IDS))


@pytest.mark.parametrize("kind", [0, 1])
def test_a_tied_head_beside_its_embedding_has_to_equal_it(kind: int) -> None:
    source = named("every_other", kind)
    embedding = source.weights[f"{BODIES[kind]}embed_tokens.weight"]
    head = f"{HEADS[kind]}weight"
    source.weights[head] = embedding.copy()
    assert load_model(source).notes == ()
    source.weights[head] = embedding + np.float32(1)
    with pytest.raises(UnsupportedModelError, match="ties"):
        load_model(source)
    source.weights[head] = source.weights.pop(f"{BODIES[kind]}embed_tokens.weight")
    (note,) = load_model(source).notes
    assert "tied" in note
    assert head in note


@pytest.mark.parametrize("prefix", ["", "model."])
def test_what_sees_is_left_out_and_told(prefix: str) -> None:
    source = CASES["every_other"].source(3)
    for name in ("vision_tower.vision_model.head.probe", "multi_modal_projector.mm_input"):
        source.weights[prefix + name] = np.zeros(3, np.float32)
    (note,) = load_model(source).notes
    assert "only the text part is computed" in note
    assert "vision_tower" in note
    source.weights[f"{prefix}audio_tower.conv.weight"] = np.zeros(3, np.float32)
    with pytest.raises(UnsupportedModelError, match="audio_tower"):
        load_model(source)


def read(text: dict[str, Any], **above: Any) -> Any:
    """The configuration of the first case, with changes within and above."""
    config = CASES["every_other"].config
    return GEMMA3.read({**config, "text_config": {**config["text_config"], **text}, **above})


def test_what_published_files_leave_out_has_its_size() -> None:
    text = {"hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34}
    found = GEMMA3.read({"model_type": "gemma3", "text_config": text})
    assert (found.heads, found.kv_heads, found.head_dim, found.vocab) == (8, 4, 256, 262208)
    assert found.tied
    assert found.windows[:7] == (4096,) * 5 + (0, 4096)


def test_what_stands_above_counts() -> None:
    assert read({"tie_word_embeddings": False}).tied
    assert not read({"tie_word_embeddings": True}, tie_word_embeddings=False).tied
    assert (read({"bos_token_id": 1}).bos_id, read({}, bos_token_id=4).bos_id) == (1, 4)
    images = {"image_token_index": 4, "boi_token_index": 5, "eoi_token_id": 6}
    assert read({}, **images) == read({})


@pytest.mark.parametrize(
    ("text", "above", "named"),
    [
        ({"model_type": "gemma2"}, {}, "model_type='gemma2'"),
        ({"final_logit_softcapping": 30.0}, {}, "final_logit_softcapping"),
        ({"attn_logit_softcapping": 50.0}, {}, "attn_logit_softcapping"),
        ({"use_bidirectional_attention": True}, {}, "use_bidirectional_attention"),
        ({"a_key_nobody_knows": 0}, {}, "a_key_nobody_knows"),
        ({}, {"a_key_nobody_knows": 0}, "a_key_nobody_knows"),
        ({}, {"hidden_size": 32}, "hidden_size"),
        ({}, {"quantization_config": {"bits": 4}}, "quantization_config"),
    ],
)
def test_what_would_be_left_out_is_refused_by_name(
    text: dict[str, Any], above: dict[str, Any], named: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=named):
        read(text, **above)


@pytest.mark.parametrize("text", [None, [], "gemma3_text"])
def test_a_text_part_is_an_object(text: object) -> None:
    with pytest.raises(FormatError, match="text_config"):
        GEMMA3.read({"model_type": "gemma3", "text_config": text})
