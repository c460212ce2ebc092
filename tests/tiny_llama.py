"""Tiny random Llama models for the tests: configurations, weights from a seed, a source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.errors import FormatError
from lrc.models import load_model
from lrc.models.llama import LlamaModel, linear_shapes
from lrc.models.llama_config import LlamaConfig

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

#: What each parity golden file adds to `BASE`.
PARITY_CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "grouped_tied": {"num_key_value_heads": 2, "tie_word_embeddings": True},
    "one_kv_head": {"num_key_value_heads": 1, "rms_norm_eps": 1e-3},
    "linear_rope": {"rope_scaling": {"rope_type": "linear", "factor": 4.0}, "rope_theta": 500.0},
    "llama3_rope": {"rope_scaling": LLAMA3, "rope_theta": 50.0, "head_dim": 16},
    "biases": {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 2},
    "wide_heads": {"head_dim": 12, "num_attention_heads": 4, "num_key_value_heads": 2},
    "narrow_heads": {"head_dim": 4, "tie_word_embeddings": True, "num_hidden_layers": 1},
}


def tiny_config(**changes: Any) -> dict[str, Any]:
    """`BASE` with changes."""
    return {**BASE, **changes}


def tiny_weights(config: dict[str, Any], seed: int) -> dict[str, NDArray[np.float32]]:
    """Random weights of every tensor that ``config`` calls for; the same for the same seed."""
    rng = np.random.default_rng(seed)
    c = LlamaConfig.from_dict(config)

    def matrix(m: int, n: int) -> NDArray[np.float32]:
        return (rng.standard_normal((m, n)) / np.sqrt(n)).astype(np.float32)

    def norm() -> NDArray[np.float32]:
        return rng.uniform(0.5, 1.5, c.hidden).astype(np.float32)

    weights = {"model.embed_tokens.weight": matrix(c.vocab, c.hidden)}
    for i in range(c.layers):
        prefix = f"model.layers.{i}."
        for key, (m, n) in linear_shapes(c).items():
            weights[f"{prefix}{key}.weight"] = matrix(m, n) * np.float32(1.5)
            if c.attention_bias if "attn" in key else c.mlp_bias:
                weights[f"{prefix}{key}.bias"] = rng.normal(0, 0.3, m).astype(np.float32)
        weights[f"{prefix}input_layernorm.weight"] = norm()
        weights[f"{prefix}post_attention_layernorm.weight"] = norm()
    weights["model.norm.weight"] = norm()
    if not c.tied:
        weights["lm_head.weight"] = matrix(c.vocab, c.hidden)
    return weights


class MemorySource:
    """A weight source in memory."""

    def __init__(self, config: dict[str, Any], weights: dict[str, NDArray[np.float32]]) -> None:
        self.config = config
        self.weights = weights
        self.path = Path("memory")

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.weights))

    def shape(self, name: str) -> tuple[int, ...]:
        return self.weights[name].shape

    def has(self, name: str) -> bool:
        return name in self.weights

    def dense(self, name: str) -> NDArray[np.float32]:
        if name not in self.weights:
            raise FormatError(f"tensor {name} is missing")
        return self.weights[name]

    linear = dense


def tiny_model(seed: int = 7, **changes: Any) -> LlamaModel:
    """A random tiny model."""
    config = tiny_config(**changes)
    return load_model(MemorySource(config, tiny_weights(config, seed)))
