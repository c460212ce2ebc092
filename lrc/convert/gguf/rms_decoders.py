"""Settings of decoders with RMS norms in the words of Hugging Face: one function each.

Where a file lacks a key, it is what llama.cpp takes for it; where GGUF has no key for something
that the models of an architecture differ in, tensors that are there or not decide.
"""

from __future__ import annotations

from lrc.convert.gguf.common import (
    RMS_EPS,
    Config,
    partly_rotated,
    rotated,
    rotated_size,
)
from lrc.convert.gguf.metadata import Metadata
from lrc.convert.gguf.rope import Factors, longrope


def _rms_decoder(meta: Metadata, factors: Factors, model_type: str) -> Config:
    return {
        "model_type": model_type,
        **rotated(meta, factors),
        "hidden_act": "silu",
        "rms_norm_eps": meta.number(RMS_EPS),
    }


def _biases(meta: Metadata) -> Config:
    return {
        "attention_bias": meta.has("blk.0.attn_q.bias"),
        "mlp_bias": meta.has("blk.0.ffn_gate.bias"),
    }


def llama(meta: Metadata, factors: Factors) -> Config:
    """Llama and Mistral; Mixtral where there are experts."""
    if not meta.get("expert_count"):
        return {**_rms_decoder(meta, factors, "llama"), **_biases(meta)}
    return {
        **_rms_decoder(meta, factors, "mixtral"),
        "num_local_experts": meta.count("expert_count"),
        "num_experts_per_tok": meta.count("expert_used_count"),
        "sliding_window": None,
    }


def qwen2(meta: Metadata, factors: Factors) -> Config:
    """Qwen2 and Qwen2.5."""
    return {**_rms_decoder(meta, factors, "qwen2"), "use_sliding_window": False}


def qwen3(meta: Metadata, factors: Factors) -> Config:
    """Qwen3, dense."""
    return {
        **_rms_decoder(meta, factors, "qwen3"),
        "attention_bias": False,
        "use_sliding_window": False,
    }


def _experts(meta: Metadata) -> Config:
    return {
        "num_experts": meta.count("expert_count"),
        "num_experts_per_tok": meta.count("expert_used_count"),
        "moe_intermediate_size": meta.count(
            "expert_feed_forward_length", meta.rows("blk.0.ffn_up_exps.weight")
        ),
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "use_sliding_window": False,
    }


def qwen2_moe(meta: Metadata, factors: Factors) -> Config:
    """Qwen1.5-MoE and Qwen2-MoE; weights of the chosen experts are not brought to a sum of 1."""
    return {
        **_rms_decoder(meta, factors, "qwen2_moe"),
        **_experts(meta),
        "shared_expert_intermediate_size": meta.count(
            "expert_shared_feed_forward_length", meta.rows("blk.0.ffn_up_shexp.weight")
        ),
        "norm_topk_prob": False,
    }


def qwen3_moe(meta: Metadata, factors: Factors) -> Config:
    """Qwen3-MoE; weights of the chosen experts are brought to a sum of 1."""
    return {
        **_rms_decoder(meta, factors, "qwen3_moe"),
        **_experts(meta),
        "attention_bias": False,
        "norm_topk_prob": True,
    }


def smollm3(meta: Metadata, factors: Factors) -> Config:
    """SmolLM3, which leaves every fourth block without positions."""
    config = _rms_decoder(meta, factors, "smollm3")
    layers = config["num_hidden_layers"]
    return {
        **config,
        **_biases(meta),
        "no_rope_layer_interval": 4,
        "no_rope_layers": [int((i + 1) % 4 != 0) for i in range(layers)],
        "use_sliding_window": False,
    }


def granite(meta: Metadata, factors: Factors) -> Config:
    """Granite 3, dense: Llama with multipliers."""
    return {
        **_rms_decoder(meta, factors, "granite"),
        **_biases(meta),
        "attention_multiplier": meta.number("attention.scale"),
        "embedding_multiplier": meta.number("embedding_scale", 1.0),
        "residual_multiplier": meta.number("residual_scale", 1.0),
        "logits_scaling": meta.number("logit_scale", 1.0),
    }


def olmo2(meta: Metadata, factors: Factors) -> Config:
    """OLMo 2."""
    return {**_rms_decoder(meta, factors, "olmo2"), "attention_bias": False}


def phi3(meta: Metadata, factors: Factors) -> Config:
    """Phi-3, Phi-3.5 and Phi-4."""
    config = partly_rotated(meta)
    window = meta.count("attention.sliding_window", 0, least=0)
    return {
        "model_type": "phi3",
        **config,
        "hidden_act": "silu",
        "rms_norm_eps": meta.number(RMS_EPS),
        "rope_scaling": longrope(meta, factors, rotated_size(meta)),
        "original_max_position_embeddings": meta.count(
            "rope.scaling.original_context_length", config["max_position_embeddings"]
        ),
        "sliding_window": window or None,
    }
