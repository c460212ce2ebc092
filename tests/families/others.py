"""Cases of families that have no kin here."""

from __future__ import annotations

from typing import Any

from families import SILENT

OLMO2: dict[str, dict[str, Any]] = {
    "grouped": {"num_key_value_heads": 2, "rope_theta": 500000.0},
    "biases_tied": {
        "hidden_size": 30,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "attention_bias": True,
        "tie_word_embeddings": True,
        "rms_norm_eps": 1e-3,
    },
    "gelu": {"num_hidden_layers": 3, "hidden_act": "gelu", "num_key_value_heads": 1},
    "silent": {"hidden_size": 48, **SILENT},
}
GRANITE: dict[str, dict[str, Any]] = {
    "multipliers": {
        "num_key_value_heads": 2, "embedding_multiplier": 12.0, "attention_multiplier": 0.3,
        "residual_multiplier": 0.22, "logits_scaling": 8.0, "tie_word_embeddings": True,
    },
    "biases": {
        "hidden_size": 30, "num_attention_heads": 3, "num_key_value_heads": 1,
        "attention_bias": True, "mlp_bias": True, "attention_multiplier": 0.1,
        "residual_multiplier": 1.7,
    },
    "integers": {"logits_scaling": 3, "embedding_multiplier": 2, "num_hidden_layers": 3},
    "silent": SILENT,
}  # fmt: skip
SMOLLM3: dict[str, dict[str, Any]] = {
    "every_other": {
        "pad_token_id": 0,
        "no_rope_layer_interval": 2, "num_hidden_layers": 2, "num_key_value_heads": 2,
        "tie_word_embeddings": True, "rope_theta": 500.0,
    },
    "listed": {
        "pad_token_id": 0,
        "no_rope_layers": [0, 1, 1, 0], "num_hidden_layers": 3, "hidden_size": 30,
        "num_attention_heads": 3, "num_key_value_heads": 1, "attention_bias": True,
        "mlp_bias": True,
    },
    "windows": {
        "pad_token_id": 0,
        "no_rope_layers": [1, 0, 1], "num_hidden_layers": 3, "use_sliding_window": True,
        "sliding_window": 7, "rope_theta": 500.0,
    },
    "chosen_windows": {
        "pad_token_id": 0,
        "num_hidden_layers": 2, "use_sliding_window": True, "sliding_window": 9,
        "layer_types": ["sliding_attention", "full_attention"], "head_dim": 12,
    },
    "silent": {"pad_token_id": 0, "num_hidden_layers": 5, "num_attention_heads": 8, **SILENT},
}  # fmt: skip
