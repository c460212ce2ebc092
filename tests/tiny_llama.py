"""Tiny random Llama models for the tests: configurations, and weights from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from random_weights import MemorySource, random_weights

from lrc.models import declared, load_model
from lrc.models.decoder import DecoderModel

BASE: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 48,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
YARN = {
    "rope_type": "yarn",
    "factor": 8.0,
    "beta_fast": 4.0,
    "original_max_position_embeddings": 32,
}
LONGROPE = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.25, 2.0, 4.0],
    "long_factor": [1.0, 2.0, 5.0, 12.0],
}

#: What each parity golden file adds to `BASE`.
PARITY_CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "grouped_tied": {"num_key_value_heads": 2, "tie_word_embeddings": True},
    "one_kv_head": {"num_key_value_heads": 1, "rms_norm_eps": 1e-3},
    "linear_rope": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}, "rope_theta": 500.0},
    "llama3_rope": {"rope_scaling": LLAMA3, "rope_theta": 50.0, "head_dim": 16},
    "yarn_rope": {"rope_scaling": YARN, "rope_theta": 100.0, "head_dim": 16},
    "dynamic_rope": {
        "rope_scaling": {"rope_type": "dynamic", "factor": 3.0},
        "max_position_embeddings": 24,
    },
    "longrope": {"rope_scaling": LONGROPE, "original_max_position_embeddings": 32},
    "biases": {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 2},
    "wide_heads": {"head_dim": 12, "num_attention_heads": 4, "num_key_value_heads": 2},
    "narrow_heads": {"head_dim": 4, "tie_word_embeddings": True, "num_hidden_layers": 1},
}


def tiny_config(**changes: Any) -> dict[str, Any]:
    """`BASE` with changes."""
    return {**BASE, **changes}


def tiny_weights(config: dict[str, Any], seed: int) -> dict[str, NDArray[np.float32]]:
    """Random weights of every tensor that ``config`` calls for; the same for the same seed."""
    return random_weights(declared(config), seed)


def tiny_model(seed: int = 7, **changes: Any) -> DecoderModel:
    """A random tiny model."""
    config = tiny_config(**changes)
    model = load_model(MemorySource(config, tiny_weights(config, seed)))
    assert isinstance(model, DecoderModel)
    return model
