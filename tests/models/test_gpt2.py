"""GPT-2's checkpoints: matrices transposed, names without a prefix, masks among the tensors."""

from __future__ import annotations

import numpy as np
import pytest
from model_families import FAMILIES, Case
from random_weights import MemorySource

from lrc.errors import FormatError, UnsupportedModelError
from lrc.models import load_model

CASE = FAMILIES["gpt2"]["plain"]
IDS = np.arange(30)[None]
BASE = "transformer."


def source(case: Case = CASE) -> MemorySource:
    return case.source(3)


def test_matrices_are_stored_transposed() -> None:
    stored = source().weights["transformer.h.0.attn.c_attn.weight"]
    read = load_model(source()).blocks[0].linears["attn.c_attn"]
    assert stored.shape == (32, 96)
    assert read.shape == (96, 32)


@pytest.mark.parametrize(
    ("family", "base"),
    [("gpt2", BASE), ("gpt_bigcode", BASE), ("falcon", BASE), ("opt", "model.")],
)
def test_a_model_that_was_saved_without_a_head_is_the_same(family: str, base: str) -> None:
    """Its names lack what stands before them otherwise."""
    case = next(iter(FAMILIES[family].values()))
    whole = source(case)
    short = {name.removeprefix(base): weight for name, weight in whole.weights.items()}
    assert set(short) != set(whole.weights)
    model = load_model(MemorySource(whole.config, short))
    assert model.notes == ()
    np.testing.assert_array_equal(model.logits(IDS), load_model(whole).logits(IDS))


def test_an_untied_head_has_to_be_there() -> None:
    whole = source(FAMILIES["gpt2"]["untied_scales"])
    short = {name.removeprefix(BASE): weight for name, weight in whole.weights.items()}
    load_model(MemorySource(whole.config, short))
    del short["lm_head.weight"]
    with pytest.raises(FormatError, match=r"lm_head\.weight"):
        load_model(MemorySource(whole.config, short))


@pytest.mark.parametrize("prefix", ["", BASE])
def test_masks_are_not_read(prefix: str) -> None:
    whole = source()
    weights = {prefix + n.removeprefix(BASE): weight for n, weight in whole.weights.items()}
    for block in range(2):
        weights[f"{prefix}h.{block}.attn.bias"] = np.ones((1, 1, 90, 90), np.float32)
        weights[f"{prefix}h.{block}.attn.masked_bias"] = np.array(-1e4, np.float32)
    model = load_model(MemorySource(whole.config, weights))
    np.testing.assert_array_equal(model.logits(IDS), load_model(whole).logits(IDS))


@pytest.mark.parametrize("name", ["transformer.h.0.attn.c_attn.scale", "h.0.mlp.bias", "wpe.bias"])
def test_what_has_no_place_is_refused_by_name(name: str) -> None:
    whole = source()
    whole.weights[name] = np.ones(3, np.float32)
    with pytest.raises(UnsupportedModelError, match=name.replace(".", r"\.")):
        load_model(whole)


def test_positions_beyond_the_table_are_refused() -> None:
    model = load_model(source())
    assert model.context == 90
    with pytest.raises(ValueError, match="90"):
        model.logits(np.zeros((1, 91), np.int64))
