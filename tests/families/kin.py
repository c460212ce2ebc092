"""Cases of further families that are close to Llama."""

from __future__ import annotations

from typing import Any

from families import ABSENT, SILENT

Rows = dict[str, dict[str, Any]]
FULL, SLIDING = "full_attention", "sliding_attention"

ARCEE: Rows = {
    "grouped": {"hidden_act": "relu2", "num_key_value_heads": 2, "rope_theta": 500.0},
    "biases_tied": {
        "hidden_size": 30, "num_attention_heads": 3, "num_key_value_heads": 1,
        "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True,
        "hidden_act": "gelu",
    },
    "wide_heads": {"head_dim": 12, "num_hidden_layers": 3, "hidden_act": "relu"},
    "silent": SILENT,
}  # fmt: skip
ERNIE4_5: Rows = {
    "grouped_tied": {
        "num_key_value_heads": 2, "head_dim": 10, "tie_word_embeddings": True, "rope_theta": 500.0,
    },
    "biases": {
        "hidden_size": 30, "num_attention_heads": 3, "num_key_value_heads": 1, "use_bias": True,
        "head_dim": None,
    },
    "gelu": {"hidden_act": "gelu", "num_hidden_layers": 3, "head_dim": 4},
    "silent": {"hidden_size": 16, **SILENT},
}  # fmt: skip
EXAONE4: Rows = {
    "every_other": {
        "sliding_window": 7, "sliding_window_pattern": 2, "num_key_value_heads": 2,
        "rope_theta": 500.0,
    },
    "chosen_windows": {
        "sliding_window": 9, "sliding_window_pattern": "LLG", "num_hidden_layers": 3,
        "hidden_size": 30, "num_attention_heads": 3, "num_key_value_heads": 1,
        "layer_types": [FULL, SLIDING, FULL], "tie_word_embeddings": True,
    },
    "no_window": {
        "sliding_window": None, "layer_types": [FULL] * 2, "num_key_value_heads": 1,
        "rope_theta": 500.0, "head_dim": 12,
    },
    "silent": {"hidden_size": 64, "num_attention_heads": 32, "num_hidden_layers": 4, **SILENT},
}  # fmt: skip
GLM: Rows = {
    "half_heads": {
        "num_key_value_heads": 2, "head_dim": 12, "rope_theta": 500.0, "pad_token_id": 0,
    },
    "no_biases_tied": {
        "hidden_size": 30, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 16,
        "attention_bias": False, "tie_word_embeddings": True, "partial_rotary_factor": 0.25,
        "pad_token_id": 0, "hidden_act": "gelu",
    },
    "whole_heads": {"head_dim": 8, "num_hidden_layers": 3, "partial_rotary_factor": 1.0,
                    "pad_token_id": 0},
    "silent": {"hidden_size": 16, "pad_token_id": 0, **SILENT},
}  # fmt: skip
HELIUM: Rows = {
    "plain": {"head_dim": 8, "rope_theta": 500.0},
    "biases_tied": {
        "hidden_size": 30, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 10,
        "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True,
    },
    "gelu": {"head_dim": 8, "hidden_act": "gelu", "num_key_value_heads": 2},
    "silent": {"hidden_size": 40, "num_attention_heads": 20, "head_dim": 2, **SILENT},
}  # fmt: skip
# The width of a head has no default that transformers can run.
HUNYUAN_V1_DENSE: Rows = {
    "stretched_tied": {
        "num_key_value_heads": 2, "head_dim": 12, "tie_word_embeddings": True, "pad_token_id": 0,
        "rope_scaling": {
            "type": "dynamic", "alpha": 50.0, "factor": 1.0, "beta_fast": 32, "beta_slow": 1,
            "mscale": 1.0, "mscale_all_dim": 0.0,
        },
    },
    "biases": {
        "hidden_size": 30, "num_attention_heads": 3, "num_key_value_heads": 1,
        "head_dim": 10, "attention_bias": True, "rope_theta": 500.0, "pad_token_id": 0,
    },
    "linear": {
        "rope_scaling": {"rope_type": "linear", "factor": 2.0}, "num_hidden_layers": 3,
        "hidden_act": "gelu", "pad_token_id": 0, "head_dim": 8,
    },
    "silent": {"pad_token_id": 0, "head_dim": 8, **SILENT},
}  # fmt: skip
MINISTRAL: Rows = {
    "chosen_windows": {
        "sliding_window": 7, "layer_types": [SLIDING, FULL], "num_key_value_heads": 2,
        "head_dim": 12,
    },
    "window": {
        "sliding_window": 9, "hidden_size": 30, "num_attention_heads": 3, "num_key_value_heads": 1,
        "head_dim": 10, "tie_word_embeddings": True,
    },
    "full": {
        "sliding_window": 16, "layer_types": [FULL] * 3, "num_key_value_heads": 1,
        "num_hidden_layers": 3, "head_dim": 8,
    },
    "silent": {"hidden_size": 64, "num_attention_heads": 16, "head_dim": 4, **SILENT},
}  # fmt: skip
OLMO3: Rows = {
    "fourth": {
        "sliding_window": 7, "num_hidden_layers": 4, "num_key_value_heads": 2,
        "rope_theta": 2000.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    },
    "chosen_windows": {
        "sliding_window": 9, "num_hidden_layers": 3, "hidden_size": 30, "num_attention_heads": 3,
        "num_key_value_heads": 1, "attention_bias": True, "tie_word_embeddings": True,
        "layer_types": [FULL, SLIDING, FULL], "rope_theta": ABSENT,
        "rope_parameters": {
            SLIDING: {"rope_type": "default", "rope_theta": 100.0},
            FULL: {"rope_type": "linear", "factor": 2.0, "rope_theta": 300.0},
        },
    },
    "full": {"layer_types": [FULL] * 2, "rms_norm_eps": 1e-3, "hidden_act": "gelu"},
    "silent": {"num_hidden_layers": 4, **SILENT},
}  # fmt: skip
SEED_OSS: Rows = {
    "biases": {
        "num_key_value_heads": 2, "head_dim": 10, "attention_out_bias": True, "mlp_bias": True,
        "rope_theta": 500.0,
    },
    "no_biases_tied": {
        "hidden_size": 30, "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": None,
        "attention_bias": False, "tie_word_embeddings": True,
    },
    "output_alone": {
        "head_dim": 8, "attention_bias": False, "attention_out_bias": True,
        "num_hidden_layers": 3, "hidden_act": "gelu",
    },
    "silent": {"hidden_size": 16, "num_attention_heads": 8, **SILENT},
}  # fmt: skip
_YARN = {
    "rope_type": "yarn", "type": "yarn", "rope_theta": 500.0, "factor": 4.0, "beta_fast": 32.0,
    "beta_slow": 1.0, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.5,
    "original_max_position_embeddings": 10,
}  # fmt: skip
_MINISTRAL3: dict[str, Any] = {"rope_theta": ABSENT, "pad_token_id": 0}
MINISTRAL3: Rows = {
    "growth": {
        **_MINISTRAL3, "num_key_value_heads": 2, "head_dim": 12, "rope_parameters": _YARN,
    },
    "window_tied": {
        **_MINISTRAL3, "hidden_size": 30, "num_attention_heads": 3, "num_key_value_heads": 1,
        "head_dim": 10, "sliding_window": 7, "tie_word_embeddings": True,
        "rope_parameters": {
            "rope_type": "default", "rope_theta": 500.0, "llama_4_scaling_beta": 0.2,
            "original_max_position_embeddings": 7,
        },
    },
    "silent": {"hidden_size": 16, "num_attention_heads": 8, "pad_token_id": 0, **SILENT},
}  # fmt: skip
