"""Mistral Small 3 and Ministral 3: a text part of either kind, and queries that grow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from model_families import FAMILIES
from random_weights import MemorySource

from lrc.errors import FormatError, UnsupportedModelError
from lrc.models import load_model
from lrc.models.ministral3 import MINISTRAL3
from lrc.models.mistral3 import MISTRAL3
from lrc.nn.rope import Growth, Rope, rope_tables

CASES = FAMILIES["mistral3"]
ALONE = FAMILIES["ministral3"]
IDS = np.arange(30)[None]


@pytest.mark.parametrize("case", ["window", "growth"])
def test_both_kinds_of_names_and_the_text_part_alone_are_one_model(case: str) -> None:
    source = CASES[case].source(3)
    expected = load_model(source).logits(IDS)

    def renamed(body: str, head: str) -> dict[str, Any]:
        pairs = (("language_model.model.", body), ("language_model.lm_head.", head))
        found = {}
        for name, array in source.weights.items():
            for published, other in pairs:
                name = name.replace(published, other)
            found[name] = array
        return found

    other = MemorySource(source.config, renamed("model.language_model.", "lm_head."))
    np.testing.assert_array_equal(load_model(other).logits(IDS), expected)
    text = {**source.config["text_config"], "tie_word_embeddings": case == "growth"}
    alone = MemorySource(text, renamed("model.", "lm_head."))
    np.testing.assert_array_equal(load_model(alone).logits(IDS), expected)


def read(text: dict[str, Any], **above: Any) -> Any:
    config = CASES["window"].config
    return MISTRAL3.read({**config, "text_config": {**config["text_config"], **text}, **above})


def test_what_published_files_hold_is_accepted() -> None:
    images = {
        "image_token_index": 10, "projector_hidden_act": "gelu", "spatial_merge_size": 2,
        "vision_feature_layer": -1, "multimodal_projector_bias": False,
    }  # fmt: skip
    assert read({}, **images) == read({})
    assert not read({}, tie_word_embeddings=None).tied


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ({"model_type": "mixtral"}, "model_type='mixtral'"),
        ({"num_local_experts": 8}, "num_local_experts"),
        ({"layer_types": ["full_attention"] * 2}, "layer_types"),
    ],
)
def test_what_would_be_left_out_is_refused_by_name(text: dict[str, Any], named: str) -> None:
    with pytest.raises(UnsupportedModelError, match=named):
        read(text)


def test_queries_grow_in_steps_and_turn_as_before() -> None:
    positions = np.array([0, 9, 10, 25, 1000])
    plain, grown = Rope(8), Rope(8, growth=Growth(0.5, 10))
    expected = 1 + 0.5 * np.log(1 + np.array([0, 0, 1, 2, 100]))
    for table, longer in zip(
        rope_tables(plain, positions), rope_tables(grown, positions), strict=True
    ):
        np.testing.assert_allclose(longer, expected[:, None] * table, rtol=1e-6)


def growth(**changes: Any) -> tuple[float, int]:
    found = MINISTRAL3.read({**ALONE["growth"].config, **changes})
    return found.growth.beta, found.growth.step


def test_what_makes_queries_grow() -> None:
    rotary = ALONE["growth"].config["rope_parameters"]
    assert growth() == (0.5, 10)
    assert growth(rope_parameters=None) == (0.1, 16384)
    assert growth(rope_parameters={**rotary, "llama_4_scaling_beta": None}) == (0.0, 1)
    assert growth(rope_parameters={**rotary, "max_position_embeddings": 256}) == (0.5, 10)
    with pytest.raises(FormatError, match="llama_4_scaling_beta"):
        growth(rope_parameters={**rotary, "llama_4_scaling_beta": "0.1"})
    with pytest.raises(FormatError, match="rope_parameters"):
        growth(rope_parameters=[1])
    with pytest.raises(UnsupportedModelError, match="attn_scale"):
        growth(rope_parameters={**rotary, "attn_scale": 2.0})
