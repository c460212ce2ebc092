"""Cases of families with the block of GPT-2: layer norms, a feed-forward part of two layers."""

from __future__ import annotations

from typing import Any

from families import ABSENT, SILENT

Rows = dict[str, dict[str, Any]]


def without(*keys: str, **others: Any) -> dict[str, Any]:
    """Changes by which ``keys`` are not there."""
    return {**dict.fromkeys(keys, ABSENT), **others}


#: Of the keys that every case has, those that a family without rotary positions lacks.
NO_ROTARY = without("num_key_value_heads", "rms_norm_eps", "rope_theta")

_OPT = {**NO_ROTARY, **without("hidden_act", "intermediate_size"), "ffn_dim": 56}
OPT: Rows = {
    "plain": {
        **_OPT, "tie_word_embeddings": True, "max_position_embeddings": 90,
        "num_attention_heads": 2,
    },
    "untied": {
        **_OPT, "tie_word_embeddings": False, "enable_bias": False, "hidden_size": 30,
        "num_attention_heads": 6, "activation_function": "gelu",
    },
    "silent": {**_OPT, **SILENT},
}  # fmt: skip

_STARCODER2 = without("rms_norm_eps", norm_epsilon=1e-4, hidden_act="gelu_pytorch_tanh")
STARCODER2: Rows = {
    "window": {
        **_STARCODER2, "sliding_window": 7, "num_key_value_heads": 1, "hidden_size": 36,
        "num_attention_heads": 3, "use_bias": False, "hidden_act": "gelu",
    },
    "tied": {
        **_STARCODER2, "tie_word_embeddings": True, "num_key_value_heads": 2, "head_dim": 12,
        "rope_theta": 1e5,
    },
    "silent": {**_STARCODER2, "norm_epsilon": ABSENT, **SILENT},
}  # fmt: skip

#: GPT-2 and its kin have other names for the keys.
_NAMED = without(
    *NO_ROTARY, "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "max_position_embeddings", "hidden_act", n_embd=32, n_layer=2, n_head=4,
)  # fmt: skip
GPT2: Rows = {
    "plain": {
        **_NAMED, "tie_word_embeddings": True, "n_positions": 90, "n_inner": 56,
        "layer_norm_epsilon": 1e-3,
    },
    "untied_scales": {
        **_NAMED, "tie_word_embeddings": False, "n_embd": 30, "n_head": 6, "n_layer": 3,
        "scale_attn_by_inverse_layer_idx": True, "activation_function": "relu",
    },
    "unscaled": {**_NAMED, "n_head": 2, "scale_attn_weights": False, "n_inner": 40},
    "silent": {**_NAMED, **SILENT},
}  # fmt: skip
GPT_BIGCODE: Rows = {
    "one_key_head": {
        **_NAMED, "tie_word_embeddings": True, "n_positions": 90, "n_inner": 56, "n_head": 8,
    },
    "every_head": {
        **_NAMED, "multi_query": False, "tie_word_embeddings": False, "n_embd": 36, "n_head": 3,
        "activation_function": "gelu", "layer_norm_epsilon": 1e-3,
    },
    "unscaled": {**_NAMED, "scale_attn_weights": False, "n_layer": 3},
    "silent": {**_NAMED, **SILENT},
}  # fmt: skip
GPTJ: Rows = {
    "plain": {**_NAMED, "rotary_dim": 4, "n_positions": 128, "n_inner": 56},
    "tied": {
        **_NAMED, "rotary_dim": 10, "n_embd": 30, "n_head": 3, "n_layer": 3,
        "tie_word_embeddings": True, "activation_function": "gelu", "layer_norm_epsilon": 1e-3,
    },
    "silent": {**_NAMED, "n_embd": 144, "n_head": 2, "n_layer": 1, **SILENT},
}  # fmt: skip
CODEGEN: Rows = {
    "plain": {**_NAMED, "rotary_dim": 4, "n_positions": 128, "n_inner": 56},
    "tied": {
        **_NAMED, "rotary_dim": 2, "n_embd": 48, "n_head": 8, "n_layer": 3,
        "tie_word_embeddings": True, "activation_function": "gelu", "layer_norm_epsilon": 1e-3,
    },
    "silent": {**_NAMED, "n_embd": 256, "n_layer": 1, **SILENT},
}  # fmt: skip

_NEOX = without("num_key_value_heads", "rms_norm_eps", "rope_theta", hidden_act="gelu")
GPT_NEOX: Rows = {
    "parallel": {**_NEOX, "rotary_pct": 0.5, "rotary_emb_base": 500, "layer_norm_eps": 1e-3},
    "sequential": {
        **_NEOX, "use_parallel_residual": False, "hidden_size": 36, "num_attention_heads": 3,
        "rotary_pct": 1.0, "tie_word_embeddings": True, "hidden_act": "gelu_fast",
    },
    "no_biases": {
        **_NEOX, "attention_bias": False, "num_hidden_layers": 3, "rotary_emb_base": 10000,
        "rope_scaling": {"type": "linear", "factor": 2.0},
    },
    "silent": {**_NEOX, **SILENT},
}  # fmt: skip
_PHI = without("rms_norm_eps", layer_norm_eps=1e-3, hidden_act="gelu_new")
PHI: Rows = {
    "partial": {**_PHI, "partial_rotary_factor": 0.5, "rope_theta": 500.0},
    "grouped_norms": {
        **_PHI, "partial_rotary_factor": 0.4, "num_key_value_heads": 1, "hidden_size": 36,
        "num_attention_heads": 3, "qk_layernorm": True, "tie_word_embeddings": True,
    },
    "rope_parameters": {
        **_PHI, "num_key_value_heads": 2, "rope_theta": ABSENT, "hidden_act": "gelu",
        "rope_parameters": {
            "rope_type": "linear", "factor": 4.0, "rope_theta": 100.0,
            "partial_rotary_factor": 0.75,
        },
    },
    "silent": {**_PHI, "layer_norm_eps": ABSENT, **SILENT},
}  # fmt: skip
_NEMOTRON = without("rms_norm_eps", norm_eps=1e-3, hidden_act="relu2")
NEMOTRON: Rows = {
    "grouped": {**_NEMOTRON, "num_key_value_heads": 2, "partial_rotary_factor": 0.75},
    "biases": {
        **_NEMOTRON, "num_key_value_heads": 1, "hidden_size": 36, "num_attention_heads": 3,
        "attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True, "head_dim": 8,
        "partial_rotary_factor": 1.0,
    },
    "some_biases": {
        **_NEMOTRON, "mlp_bias": True, "hidden_act": "gelu", "rope_theta": 500.0,
        "num_hidden_layers": 3,
    },
    "silent": {**_NEMOTRON, "norm_eps": ABSENT, **SILENT, "num_key_value_heads": 4},
}  # fmt: skip
_FALCON = without(*NO_ROTARY, "intermediate_size", "hidden_act")
FALCON: Rows = {
    "one_key_head": {
        **_FALCON, "tie_word_embeddings": True, "ffn_hidden_size": 56, "num_attention_heads": 8,
    },
    "two_norms": {
        **_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2, "num_hidden_layers": 3,
        "tie_word_embeddings": False, "rope_theta": 500.0,
    },
    "one_norm": {
        **_FALCON, "new_decoder_architecture": True, "num_kv_heads": 1, "hidden_size": 36,
        "num_attention_heads": 3, "num_ln_in_parallel_attn": 1, "bias": True,
    },
    "sequential": {
        **_FALCON, "parallel_attn": False, "multi_query": False, "bias": True,
        "activation": "gelu_new", "layer_norm_epsilon": 1e-3,
    },
    "silent": {**_FALCON, **SILENT},
}  # fmt: skip

_STABLELM = without("rms_norm_eps", layer_norm_eps=1e-3)
STABLELM: Rows = {
    "parallel_norms": {
        **_STABLELM, "use_parallel_residual": True, "qk_layernorm": True, "num_key_value_heads": 2,
        "partial_rotary_factor": 0.5,
    },
    "biases": {
        **_STABLELM, "use_qkv_bias": True, "hidden_size": 36, "num_attention_heads": 3,
        "num_key_value_heads": 1, "tie_word_embeddings": True, "partial_rotary_factor": 1.0,
        "rope_theta": 500.0,
    },
    "norms": {
        **_STABLELM, "qk_layernorm": True, "partial_rotary_factor": 0.25, "num_hidden_layers": 3,
        "hidden_act": "gelu",
    },
    "silent": {
        **_STABLELM, "layer_norm_eps": ABSENT, **SILENT, "hidden_size": 256,
        "num_attention_heads": 32,
    },
}  # fmt: skip
_LONG = {
    "type": "longrope",
    "short_factor": [1.0, 1.1, 1.3, 1.6],
    "long_factor": [1.0, 2.0, 4.5, 8.0],
}
PHI3: Rows = {
    "window": {
        "pad_token_id": 0,"sliding_window": 7, "num_key_value_heads": 2},
    "longrope": {
        "pad_token_id": 0,
        "rope_scaling": _LONG, "num_key_value_heads": 1, "max_position_embeddings": 256,
        "original_max_position_embeddings": 32,
    },
    "short": {
        "pad_token_id": 0,
        "rope_scaling": {**_LONG, "original_max_position_embeddings": 128},
        "max_position_embeddings": 256, "tie_word_embeddings": True,
    },
    "partial": {
        "pad_token_id": 0,
        "partial_rotary_factor": 0.75, "hidden_size": 48, "num_attention_heads": 3,
        "num_key_value_heads": 1, "num_hidden_layers": 3,
    },
    "silent": {"pad_token_id": 0, **SILENT},
}  # fmt: skip
_BLOOM = without(
    *NO_ROTARY, "intermediate_size", "hidden_act", "num_hidden_layers", "num_attention_heads",
    "max_position_embeddings", n_layer=2, n_head=4,
)  # fmt: skip
BLOOM: Rows = {
    "plain": {**_BLOOM, "tie_word_embeddings": True, "seq_length": 90},
    "odd_heads": {
        **_BLOOM, "hidden_size": 48, "n_head": 6, "layer_norm_epsilon": 1e-3, "n_layer": 3,
    },
    "older_names": {
        **_BLOOM, **without("hidden_size", "n_layer", "n_head"), "n_embed": 36,
        "num_hidden_layers": 2, "num_attention_heads": 3,
    },
    "silent": {**_BLOOM, **SILENT},
}  # fmt: skip
_MPT = without(
    *NO_ROTARY, "intermediate_size", "hidden_act", "hidden_size", "num_hidden_layers",
    "num_attention_heads", "max_position_embeddings", d_model=32, n_layers=2, n_heads=4,
)  # fmt: skip
MPT: Rows = {
    "plain": {
        **_MPT, "tie_word_embeddings": True, "max_seq_len": 90,
        "attn_config": {"alibi": True, "attn_impl": "torch", "clip_qkv": None},
    },
    "odd_heads": {
        **_MPT, "d_model": 60, "n_heads": 5, "n_layers": 3, "layer_norm_epsilon": 1e-3,
        "attn_config": {"softmax_scale": 0.4},
    },
    "silent": {**_MPT, **SILENT},
}  # fmt: skip
_NEO = without(
    *NO_ROTARY, "intermediate_size", "hidden_act", "num_hidden_layers", "num_attention_heads",
    num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]],
)  # fmt: skip
GPT_NEO: Rows = {
    "windows": {
        **_NEO, "tie_word_embeddings": True, "window_size": 7, "max_position_embeddings": 90,
        "intermediate_size": 56,
    },
    "odd_heads": {
        **_NEO, "hidden_size": 30, "num_heads": 3, "num_layers": 3, "layer_norm_epsilon": 1e-3,
        "attention_types": [[["local"], 2], [["global"], 1]], "window_size": 9,
        "activation_function": "gelu",
    },
    "silent": {
        **_NEO, **SILENT, "hidden_size": 16, "num_heads": 2, "num_layers": 24,
        "attention_types": ABSENT, "max_position_embeddings": 300,
    },
}  # fmt: skip
