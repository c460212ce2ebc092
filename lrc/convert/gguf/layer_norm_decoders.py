"""Settings of decoders with layer norms in the words of Hugging Face: one function each.

Where a file lacks a key, it is what llama.cpp takes for it; where GGUF has no key for something
that the models of an architecture differ in, tensors that are there or not decide.
"""

from __future__ import annotations

from lrc.convert.gguf.common import (
    LAYER_NORM_EPS,
    RMS_EPS,
    Config,
    head_size,
    partly_rotated_scaled,
    shapes_of,
    whole_heads,
    windows,
)
from lrc.convert.gguf.metadata import Metadata
from lrc.convert.gguf.rope import Factors
from lrc.errors import UnsupportedModelError


def phi2(meta: Metadata, factors: Factors) -> Config:
    """Phi-1.5 and Phi-2."""
    return {
        "model_type": "phi",
        **partly_rotated_scaled(meta, factors),
        "hidden_act": "gelu_new",
        "layer_norm_eps": meta.number(LAYER_NORM_EPS),
        "qk_layernorm": False,
    }


def starcoder2(meta: Metadata, factors: Factors) -> Config:
    """StarCoder2."""
    return {
        "model_type": "starcoder2",
        **whole_heads(meta, factors),
        "hidden_act": "gelu_pytorch_tanh",
        "norm_epsilon": meta.number(LAYER_NORM_EPS),
        "use_bias": meta.has("blk.0.attn_q.bias"),
        "sliding_window": None,
    }


def stablelm(meta: Metadata, factors: Factors) -> Config:
    """StableLM; blocks without a second norm are parallel, whatever the file says of it."""
    meta.get("use_parallel_residual")
    return {
        "model_type": "stablelm",
        **partly_rotated_scaled(meta, factors),
        "hidden_act": "silu",
        "layer_norm_eps": meta.number(LAYER_NORM_EPS),
        "use_qkv_bias": meta.has("blk.0.attn_q.bias"),
        "qk_layernorm": meta.has("blk.0.attn_q_norm.weight"),
        "use_parallel_residual": not meta.has("blk.0.ffn_norm.weight"),
    }


def cohere(meta: Metadata, factors: Factors) -> Config:
    """Command R."""
    return {
        "model_type": "cohere",
        **whole_heads(meta, factors),
        "hidden_act": "silu",
        "layer_norm_eps": meta.number(LAYER_NORM_EPS),
        "logit_scale": meta.number("logit_scale"),
        "use_qk_norm": meta.has("blk.0.attn_q_norm.weight"),
        "attention_bias": meta.has("blk.0.attn_q.bias"),
    }


def cohere2(meta: Metadata, factors: Factors) -> Config:
    """Command R7B and A: a window and rotary positions in three of four blocks."""
    config = whole_heads(meta, factors)
    return {
        "model_type": "cohere2",
        **config,
        **windows(meta, config["num_hidden_layers"], every=4),
        "hidden_act": "silu",
        "layer_norm_eps": meta.number(LAYER_NORM_EPS),
        "logit_scale": meta.number("logit_scale"),
        "attention_bias": False,
    }


def gpt_neox(meta: Metadata, factors: Factors) -> Config:
    """GPT-NeoX and Pythia."""
    config = partly_rotated_scaled(meta, factors)
    del config["num_key_value_heads"]
    return {
        "model_type": "gpt_neox",
        "rotary_pct": config.pop("partial_rotary_factor"),
        "rotary_emb_base": config.pop("rope_theta"),
        **config,
        "hidden_act": "gelu",
        "layer_norm_eps": meta.number(LAYER_NORM_EPS),
        "use_parallel_residual": meta.flag("use_parallel_residual", True),
        "attention_bias": meta.has("blk.0.attn_qkv.bias"),
    }


def falcon(meta: Metadata, factors: Factors) -> Config:
    """Falcon, whose blocks have their parts side by side."""
    config = whole_heads(meta, factors)
    key_heads, heads = config["num_key_value_heads"], config["num_attention_heads"]
    two_norms = meta.has("blk.0.attn_norm_2.weight")
    renamed = {"num_key_value_heads": "num_kv_heads", "intermediate_size": "ffn_hidden_size"}
    return {
        "model_type": "falcon",
        **{renamed.get(key, key): value for key, value in config.items()},
        "activation": "gelu",
        "layer_norm_epsilon": meta.number(LAYER_NORM_EPS),
        "alibi": False,
        "bias": meta.has("blk.0.attn_qkv.bias"),
        "multi_query": key_heads == 1,
        "new_decoder_architecture": two_norms or key_heads not in (1, heads),
        "num_ln_in_parallel_attn": 2 if two_norms else 1,
        "parallel_attn": True,
    }


def nemotron(meta: Metadata, factors: Factors) -> Config:
    """Nemotron and Minitron; the epsilon is in two keys."""
    meta.get(RMS_EPS)
    return {
        "model_type": "nemotron",
        **partly_rotated_scaled(meta, factors),
        "head_dim": head_size(meta),
        "hidden_act": "relu2",
        "norm_eps": meta.number(LAYER_NORM_EPS),
        "attention_bias": meta.has("blk.0.attn_q.bias"),
        "mlp_bias": meta.has("blk.0.ffn_up.bias"),
    }


def gpt_bigcode(meta: Metadata, factors: Factors) -> Config:
    """StarCoder: GPT-2 with one key head."""
    if meta.count("attention.head_count_kv", 1) != 1:
        raise UnsupportedModelError(
            f"{meta.architecture}.attention.head_count_kv is "
            f"{meta.get('attention.head_count_kv')}; only 1 is supported"
        )
    return {
        **gpt2(meta, factors),
        "model_type": "gpt_bigcode",
        "activation_function": "gelu_pytorch_tanh",
        "multi_query": True,
    }


def gpt2(meta: Metadata, factors: Factors) -> Config:
    """GPT-2: learned positions."""
    sizes = shapes_of(meta)
    return {
        "model_type": "gpt2",
        "vocab_size": sizes["vocab_size"],
        "n_positions": sizes["max_position_embeddings"],
        "n_embd": sizes["hidden_size"],
        "n_inner": sizes["intermediate_size"],
        "n_layer": sizes["num_hidden_layers"],
        "n_head": sizes["num_attention_heads"],
        "tie_word_embeddings": sizes["tie_word_embeddings"],
        "activation_function": "gelu_new",
        "layer_norm_epsilon": meta.number(LAYER_NORM_EPS),
    }
