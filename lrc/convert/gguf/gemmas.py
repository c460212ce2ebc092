"""Settings of the Gemma models in the words of Hugging Face."""

from __future__ import annotations

from lrc.convert.gguf.common import Config, head_size, shapes_of, windows
from lrc.convert.gguf.metadata import Metadata
from lrc.convert.gguf.rope import Factors, rope_scaling
from lrc.errors import UnsupportedModelError

#: Blocks of the largest models, whose queries are scaled by the width of a head as if the heads
#: made up the whole width.
_GEMMA2_27B, _GEMMA3_27B = 46, 62


def gemma(meta: Metadata, factors: Factors) -> Config:
    """Gemma."""
    config = _common(meta, "gemma")
    return {**config, "hidden_act": config["hidden_activation"], **_rope(meta, factors, 10000.0)}


def gemma2(meta: Metadata, factors: Factors) -> Config:
    """Gemma 2: soft caps, and a window in every other block."""
    config = _common(meta, "gemma2")
    return {
        **config,
        **_rope(meta, factors, 10000.0),
        **windows(meta, config["num_hidden_layers"], every=2),
        "query_pre_attn_scalar": _query_scalar(config, _GEMMA2_27B),
        "attn_logit_softcapping": meta.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": meta.number("final_logit_softcapping", 30.0),
    }


def gemma3(meta: Metadata, factors: Factors) -> Config:
    """The text part of Gemma 3: five blocks with a window to one without."""
    config = _common(meta, "gemma3_text")
    cap = meta.get("final_logit_softcapping")
    return {
        **config,
        **_rope(meta, factors, 1000000.0),
        "rope_local_base_freq": meta.number("rope.freq_base_swa", 10000.0),
        **windows(meta, config["num_hidden_layers"], every=6),
        "query_pre_attn_scalar": _query_scalar(config, _GEMMA3_27B),
        "attention_bias": False,
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None if cap is None else meta.number("final_logit_softcapping"),
    }


def _common(meta: Metadata, model_type: str) -> Config:
    return {
        "model_type": model_type,
        **shapes_of(meta),
        "head_dim": head_size(meta),
        "hidden_activation": "gelu_pytorch_tanh",
        "rms_norm_eps": meta.number("attention.layer_norm_rms_epsilon"),
    }


def _rope(meta: Metadata, factors: Factors, default: float) -> Config:
    size, theta = head_size(meta), meta.number("rope.freq_base", default)
    if meta.count("rope.dimension_count", size) != size:
        raise UnsupportedModelError(
            f"{meta.architecture}.rope.dimension_count is {meta.get('rope.dimension_count')}, not "
            f"the head size {size}"
        )
    return {"rope_theta": theta, "rope_scaling": rope_scaling(meta, factors, theta, size)}


def _query_scalar(config: Config, largest: int) -> int:
    """Queries are divided by the root of this; GGUF has no key for it."""
    if config["num_hidden_layers"] == largest:
        return int(config["hidden_size"] // config["num_attention_heads"])
    return int(config["head_dim"])
