"""Metadata of a GGUF Llama file as the config.json of Hugging Face."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.errors import FormatError, UnsupportedModelError

_KNOWN = {
    "block_count", "context_length", "embedding_length", "feed_forward_length", "vocab_size",
    "attention.head_count", "attention.head_count_kv", "attention.layer_norm_rms_epsilon",
    "attention.key_length", "attention.value_length", "rope.freq_base", "rope.dimension_count",
    "rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length",
    "rope.scaling.finetuned", "rope.scale_linear", "expert_count", "expert_used_count",
    "tensor_data_layout",  # whatever it says, q and k are in the order that llama.cpp reads
}  # fmt: skip
#: Llama 3.1 and later: (low_freq_factor, high_freq_factor, original context); the factor varies.
_LLAMA3 = (1.0, 4.0, 8192)

Shapes = Mapping[str, tuple[int, ...]]


def hf_config(
    fields: Mapping[str, Any], shapes: Shapes, rope_factors: NDArray[np.float32] | None
) -> dict[str, Any]:
    """Build config.json, without token ids and dtype.

    Parameters
    ----------
    fields
        Every key and value of the GGUF file.
    shapes
        NumPy shapes of its tensors, by GGUF name; they decide about ties and biases.
    rope_factors
        (head_dim / 2,) divisors of the rotary frequencies, if the file has them.

    Raises
    ------
    UnsupportedModelError
        Not the architecture ``llama``, or a setting that is not known.
    FormatError
        A needed key is missing or has the wrong type.
    """
    if fields.get("general.architecture") != "llama":
        raise UnsupportedModelError(
            f"GGUF architecture {fields.get('general.architecture')!r} is not supported; "
            "expected 'llama'"
        )
    own = {k.removeprefix("llama."): v for k, v in fields.items() if k.startswith("llama.")}
    unknown = sorted(set(own) - _KNOWN)
    if unknown:
        raise UnsupportedModelError(f"the GGUF setting llama.{unknown[0]} is not supported")
    if own.get("expert_count"):
        raise UnsupportedModelError("the GGUF file is a mixture of experts; expected a dense model")
    hidden, heads = _count(own, "embedding_length"), _count(own, "attention.head_count")
    head_dim = _count(own, "attention.key_length", hidden // heads)
    for key in ("attention.value_length", "rope.dimension_count"):
        if _count(own, key, head_dim) != head_dim:
            raise UnsupportedModelError(f"llama.{key} is {own[key]}, not the head size {head_dim}")
    kv_heads = _count(own, "attention.head_count_kv", heads)
    if heads % kv_heads or head_dim % 2:
        raise FormatError(
            f"{heads} heads, {kv_heads} key heads and head size {head_dim} do not fit together "
            "in the GGUF file"
        )
    theta = _number(own, "rope.freq_base", 10000.0)
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": _vocabulary(own, shapes),
        "hidden_size": hidden,
        "intermediate_size": _count(own, "feed_forward_length"),
        "num_hidden_layers": _count(own, "block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": _count(own, "context_length"),
        "rms_norm_eps": _number(own, "attention.layer_norm_rms_epsilon"),
        "rope_theta": theta,
        "rope_scaling": _rope_scaling(own, rope_factors, theta, head_dim),
        "tie_word_embeddings": "output.weight" not in shapes,
        "attention_bias": "blk.0.attn_q.bias" in shapes,
        "mlp_bias": "blk.0.ffn_gate.bias" in shapes,
    }


def tensor_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of a Llama checkpoint with this config, first to last."""
    d, mlp = config["hidden_size"], config["intermediate_size"]
    q = config["num_attention_heads"] * config["head_dim"]
    kv = config["num_key_value_heads"] * config["head_dim"]
    linears = {
        "self_attn.q_proj": (q, d), "self_attn.k_proj": (kv, d), "self_attn.v_proj": (kv, d),
        "self_attn.o_proj": (d, q), "mlp.gate_proj": (mlp, d), "mlp.up_proj": (mlp, d),
        "mlp.down_proj": (d, mlp),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config["vocab_size"], d)}
    for i in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{i}."
        shapes[prefix + "input_layernorm.weight"] = (d,)
        for name, shape in linears.items():
            shapes[f"{prefix}{name}.weight"] = shape
            if config["attention_bias" if name.startswith("self_attn") else "mlp_bias"]:
                shapes[f"{prefix}{name}.bias"] = shape[:1]
        shapes[prefix + "post_attention_layernorm.weight"] = (d,)
    shapes["model.norm.weight"] = (d,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], d)
    return shapes


def _count(own: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = own.get(key, default)
    if type(value) is not int or value < 1:
        raise FormatError(f"llama.{key} is {value!r} in the GGUF file; expected an integer >= 1")
    return value


def _number(own: Mapping[str, Any], key: str, default: float | None = None) -> float:
    """Shortest decimal of a float32: 1e-05, not 9.999999747378752e-06."""
    value = own.get(key, default)
    if not isinstance(value, float) or not math.isfinite(value) or value <= 0:
        raise FormatError(f"llama.{key} is {value!r} in the GGUF file; expected a number > 0")
    return float(str(np.float32(value)))


def _vocabulary(own: Mapping[str, Any], shapes: Shapes) -> int:
    rows = shapes.get("token_embd.weight", (0,))[0]
    if own.get("vocab_size", rows) != rows or rows < 1:
        raise FormatError(
            f"the GGUF file has {rows} rows of embeddings but llama.vocab_size "
            f"{own.get('vocab_size')}"
        )
    return rows


def _rope_scaling(
    own: Mapping[str, Any], factors: NDArray[np.float32] | None, theta: float, head_dim: int
) -> dict[str, Any] | None:
    kind = own.get("rope.scaling.type", "none")
    if factors is not None:
        return _llama3_scaling(factors, theta, head_dim)
    if "rope.scale_linear" in own:
        return {"rope_type": "linear", "factor": _number(own, "rope.scale_linear")}
    if kind == "linear":
        return {"rope_type": "linear", "factor": _number(own, "rope.scaling.factor")}
    if kind != "none":
        raise UnsupportedModelError(f"rope scaling {kind!r} of the GGUF file is not supported")
    return None


def _llama3_scaling(factors: NDArray[np.float32], theta: float, head_dim: int) -> dict[str, Any]:
    """Parameters of the Llama 3 rule whose divisors are ``factors``.

    The file holds divisors, not parameters: the largest is the factor, the others follow from
    the parameters that all Llama 3 models share. Refused when they do not.
    """
    low, high, context = _LLAMA3
    factor = float(factors.max())
    wavelength = 2 * math.pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    smooth = np.clip((context / wavelength - low) / (high - low), 0, 1)
    rule = 1 / ((1 - smooth) / factor + smooth)
    if factors.shape != rule.shape or not np.allclose(factors, rule, rtol=1e-4, atol=0):
        raise UnsupportedModelError("rope_freqs of the GGUF file do not follow the Llama 3 rule")
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": context,
    }
