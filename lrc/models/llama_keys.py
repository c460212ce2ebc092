"""Every key of a Llama ``config.json``: read, off, or harmless. Any other is refused."""

from __future__ import annotations

from lrc.models.common_keys import COMMON_HARMLESS, COMMON_OFF
from lrc.models.config_reader import ConfigKeys

_USED = (
    "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings", "rms_norm_eps",
    "rope_theta", "rope_scaling", "rope_parameters", "attention_bias", "mlp_bias",
    "tie_word_embeddings", "bos_token_id", "layer_types",
)  # fmt: skip

#: Things that relatives of Llama compute, under the names that they use for them.
_OFF: dict[str, tuple[object, ...]] = {
    "hidden_act": ("swish", "silu"),
    "sliding_window": (None,),
    "use_sliding_window": (None, False),
    "attention_chunk_size": (None,),
    "partial_rotary_factor": (None, 1),
    "rotary_pct": (None, 1),
    "rope_interleaved": (None, False),
    "rope_condense_ratio": (None, 1),
    "no_rope_layers": (None, []),
    "attn_logit_softcapping": (None,),
    "final_logit_softcapping": (None,),
    "attn_temperature_tuning": (None, False),
    "clip_qkv": (None,),
    "use_qk_norm": (None, False),
    "qk_norm": (None, False),
    "bias": (None, False),
    "use_bias": (None, False),
    "qkv_bias": (None, False),
    "attention_out_bias": (None, False),
    "parallel_attn": (None, False),
    "use_parallel_residual": (None, False),
    "embedding_multiplier": (None, 1),
    "residual_multiplier": (None, 1),
    "attention_multiplier": (None,),
    "logits_scaling": (None, 1),
    "logit_scale": (None, 1),
    "num_local_experts": (None, 0),
    "num_experts": (None, 0),
    "n_routed_experts": (None, 0),
}
_HARMLESS = {
    "pretraining_tp": "splits products into parts whose sum is the same",
    "is_llama_config": "says that the other keys are those of Llama, as they are",
    "num_experts_per_tok": "is read only where there are experts",
    "max_window_layers": "is read only with a sliding window",
    "original_max_position_embeddings": "the rotary settings hold their own",
    "multiple_of": "the file gives the width that follows from it",
    "ffn_dim_multiplier": "the file gives the width that follows from it",
}

LLAMA_KEYS = ConfigKeys(
    family="llama",
    used=frozenset(_USED),
    off=COMMON_OFF | _OFF,
    harmless=COMMON_HARMLESS | _HARMLESS,
)

#: Keys of ``rope_parameters`` and ``rope_scaling``.
ROPE_KEYS = ConfigKeys(
    family="llama",
    used=frozenset(
        {
            "rope_type",
            "type",
            "rope_theta",
            "factor",
            "low_freq_factor",
            "high_freq_factor",
            "original_max_position_embeddings",
        }
    ),
    off={"partial_rotary_factor": (None, 1)},
    harmless={},
)
