"""Logits equal those of Hugging Face transformers, from files written once with torch."""

import json

import numpy as np
import pytest
from model_families import CASES
from random_weights import MemorySource, random_weights

from lrc.models import declared, load_model

TOLERANCE = 1e-4  # largest difference over largest logit
cases = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def worst(got, expected):
    return np.abs(got - expected).max() / np.abs(expected).max()


@cases
def test_logits_match_transformers(case):
    seed, ids, logits = case.logits()
    got = case.model(seed).logits(ids)
    assert got.dtype == np.float32
    assert worst(got, logits) < TOLERANCE


@cases
def test_cached_decode_matches_transformers(case):
    seed, ids, logits = case.logits()
    model = case.model(seed)
    cache = model.new_cache(len(ids), ids.shape[1])
    parts = [model.logits(ids[:, :20], cache)]
    parts += [model.logits(ids[:, i : i + 1], cache) for i in range(20, ids.shape[1])]
    assert worst(np.concatenate(parts, axis=1), logits) < TOLERANCE


@cases
def test_config_as_transformers_saves_it_reads_the_same(case):
    saved = json.loads(case.golden.with_suffix(".json").read_text())
    weights = random_weights(declared(case.config), 3)
    models = [load_model(MemorySource(config, weights)) for config in (saved, dict(case.config))]
    assert models[0].config == models[1].config


def test_the_golden_cases_tell_apart():
    """Scalings, biases and head counts change the logits by far more than the tolerance."""
    seed, ids, logits = CASES["llama-llama3_rope"].logits()
    config = {**CASES["llama-llama3_rope"].config, "rope_scaling": None}
    model = load_model(MemorySource(config, random_weights(declared(config), seed)))
    assert worst(model.logits(ids), logits) > 100 * TOLERANCE
