"""Cases of the Gemmas; norms multiply by 1 + weight."""

from __future__ import annotations

from typing import Any

from families import ABSENT, SILENT

GATE = "gelu_pytorch_tanh"
GEMMA: dict[str, dict[str, Any]] = {
    "one_block": {
        "hidden_act": GATE, "head_dim": 12, "num_key_value_heads": 1, "tie_word_embeddings": True,
        "num_hidden_layers": 1,
    },
    "untied_biases": {
        "hidden_act": "gelu", "num_attention_heads": 3, "head_dim": 10, "num_key_value_heads": 3,
        "attention_bias": True, "rms_norm_eps": 1e-3, "rope_theta": 500.0,
    },
    "silu": {
        "hidden_size": 24, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 4,
        "num_hidden_layers": 3,
    },
    "silent": {"num_attention_heads": 16, "hidden_size": 16, **SILENT},
}  # fmt: skip
GEMMA2: dict[str, dict[str, Any]] = {
    "alternating": {
        "hidden_activation": GATE, "hidden_act": GATE, "head_dim": 12, "num_key_value_heads": 2,
        "sliding_window": 7, "query_pre_attn_scalar": 10, "attn_logit_softcapping": 3.0,
        "final_logit_softcapping": 2.0, "num_hidden_layers": 3, "tie_word_embeddings": True,
    },
    "chosen_windows": {
        "hidden_act": ABSENT, "hidden_activation": "silu", "hidden_size": 33,
        "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 10, "sliding_window": 9,
        "layer_types": ["full_attention", "sliding_attention"], "attention_bias": True,
        "attn_logit_softcapping": 1.0, "query_pre_attn_scalar": 33,
    },
    "no_caps": {
        "hidden_act": ABSENT, "attn_logit_softcapping": None, "final_logit_softcapping": None,
        "head_dim": 8, "sliding_window": 64, "rms_norm_eps": 1e-3, "rope_theta": 500.0,
    },
    "silent": {"hidden_size": 16, **SILENT},
}  # fmt: skip
LOCAL, GLOBAL = "sliding_attention", "full_attention"
GEMMA3_TEXT: dict[str, dict[str, Any]] = {
    "every_other": {
        "hidden_activation": GATE, "hidden_act": GATE, "head_dim": 12, "num_key_value_heads": 2,
        "sliding_window": 7, "sliding_window_pattern": 2, "query_pre_attn_scalar": 40,
        "rope_local_base_freq": 50.0, "rope_theta": 2000.0, "tie_word_embeddings": True,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "chosen_windows": {
        "hidden_act": ABSENT, "hidden_activation": "silu", "hidden_size": 33,
        "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 10, "sliding_window": 9,
        "layer_types": [GLOBAL, LOCAL, LOCAL], "num_hidden_layers": 3, "attention_bias": True,
        "rms_norm_eps": 1e-3, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 33,
        "rope_theta": ABSENT,
        "rope_parameters": {
            LOCAL: {"rope_type": "default", "rope_theta": 100.0},
            GLOBAL: {"rope_type": "linear", "factor": 2.0, "rope_theta": 300.0},
        },
    },
    "sixth": {
        "hidden_act": ABSENT, "hidden_size": 16, "num_hidden_layers": 6, "head_dim": 8,
        "num_key_value_heads": 1, "sliding_window": 20,
    },
    "silent": {"hidden_size": 16, **SILENT},
}  # fmt: skip
