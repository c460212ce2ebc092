"""Logits equal those of Hugging Face transformers, from files written once with torch."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_llama import PARITY_CASES, MemorySource, tiny_config, tiny_weights

from lrc.models import load_model
from lrc.models.llama_config import LlamaConfig

FOLDER = Path(__file__).parents[1] / "data" / "golden" / "parity"
TOLERANCE = 1e-4  # largest difference over largest logit


def golden(name):
    with np.load(FOLDER / f"{name}.npz") as file:
        return int(file["seed"]), file["ids"], file["logits"]


def worst(got, expected):
    return np.abs(got - expected).max() / np.abs(expected).max()


@pytest.mark.parametrize("name", PARITY_CASES)
def test_logits_match_transformers(name):
    seed, ids, logits = golden(name)
    config = tiny_config(**PARITY_CASES[name])
    model = load_model(MemorySource(config, tiny_weights(config, seed)))
    got = model.logits(ids)
    assert got.dtype == np.float32
    assert worst(got, logits) < TOLERANCE


@pytest.mark.parametrize("name", PARITY_CASES)
def test_cached_decode_matches_transformers(name):
    seed, ids, logits = golden(name)
    config = tiny_config(**PARITY_CASES[name])
    model = load_model(MemorySource(config, tiny_weights(config, seed)))
    cache = model.new_cache(len(ids), ids.shape[1])
    parts = [model.logits(ids[:, :20], cache)]
    parts += [model.logits(ids[:, i : i + 1], cache) for i in range(20, ids.shape[1])]
    assert worst(np.concatenate(parts, axis=1), logits) < TOLERANCE


@pytest.mark.parametrize("name", PARITY_CASES)
def test_config_as_transformers_saves_it_reads_the_same(name):
    saved = json.loads((FOLDER / f"{name}.json").read_text())
    assert LlamaConfig.from_dict(saved) == LlamaConfig.from_dict(tiny_config(**PARITY_CASES[name]))


def test_the_golden_cases_tell_apart():
    """Scalings, biases and head counts change the logits by far more than the tolerance."""
    seed, ids, logits = golden("llama3_rope")
    changed = {**PARITY_CASES["llama3_rope"], "rope_scaling": None}
    config = tiny_config(**changed)
    model = load_model(MemorySource(config, tiny_weights(config, seed)))
    assert worst(model.logits(ids), logits) > 100 * TOLERANCE
