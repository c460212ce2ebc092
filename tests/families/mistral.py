"""Cases of Mistral."""

from __future__ import annotations

from typing import Any

from families import SILENT

MISTRAL: dict[str, dict[str, Any]] = {
    "window": {"sliding_window": 7, "num_key_value_heads": 2, "head_dim": 12},
    "tied": {
        "sliding_window": 16, "tie_word_embeddings": True, "num_hidden_layers": 3,
        "rope_theta": 1e6,
    },
    "full": {"sliding_window": None, "num_key_value_heads": 1, "num_attention_heads": 2},
    "silent": {"hidden_size": 64, "num_attention_heads": 16, **SILENT},
}  # fmt: skip
