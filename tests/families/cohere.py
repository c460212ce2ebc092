"""Cases of Cohere's models."""

from __future__ import annotations

from typing import Any

from families import ABSENT, SILENT

#: Norms are layer norms, with a key of their own.
BASE: dict[str, Any] = {"rms_norm_eps": ABSENT, "layer_norm_eps": 1e-4, "pad_token_id": 0}
QUIET: dict[str, Any] = {**SILENT, "pad_token_id": 0}
COHERE: dict[str, dict[str, Any]] = {
    "grouped_tied": {
        **BASE, "num_key_value_heads": 2, "tie_word_embeddings": True, "logit_scale": 0.7,
        "rope_theta": 500.0,
    },
    "qk_norm": {
        **BASE, "use_qk_norm": True, "num_attention_heads": 3, "num_key_value_heads": 1,
        "hidden_size": 30, "attention_bias": True, "logit_scale": 2.0,
    },
    "wide_heads": {**BASE, "head_dim": 12, "num_key_value_heads": 1, "num_hidden_layers": 3},
    "silent": {"num_hidden_layers": 1, **QUIET},
}  # fmt: skip
COHERE2: dict[str, dict[str, Any]] = {
    "every_other": {
        **BASE, "sliding_window": 7, "sliding_window_pattern": 2, "num_key_value_heads": 2,
        "tie_word_embeddings": True, "logit_scale": 1.5, "rope_theta": 500.0,
    },
    "chosen_windows": {
        **BASE, "sliding_window": 9, "num_attention_heads": 3, "num_key_value_heads": 1,
        "hidden_size": 30, "num_hidden_layers": 3, "attention_bias": True,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
    },
    "fourth": {**BASE, "sliding_window": 16, "num_hidden_layers": 4, "num_key_value_heads": 1},
    "silent": {"num_hidden_layers": 4, **QUIET},
}  # fmt: skip
