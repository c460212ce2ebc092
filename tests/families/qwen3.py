"""Cases of Qwen3."""

from __future__ import annotations

from typing import Any

from families import SILENT

QWEN3: dict[str, dict[str, Any]] = {
    "grouped_tied": {
        "num_key_value_heads": 2, "head_dim": 10, "tie_word_embeddings": True, "rope_theta": 1e6,
        "use_sliding_window": False, "sliding_window": 16, "max_window_layers": 1,
    },
    "biases": {
        "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 16, "hidden_size": 24,
        "attention_bias": True, "rms_norm_eps": 1e-3,
    },
    "upper_windows": {
        "use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1,
        "num_hidden_layers": 3, "head_dim": 8, "hidden_act": "gelu_pytorch_tanh",
    },
    "silent": {"num_attention_heads": 32, **SILENT},
}  # fmt: skip
