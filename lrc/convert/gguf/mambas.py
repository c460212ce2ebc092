"""Settings of Mamba models in the words of Hugging Face."""

from __future__ import annotations

from lrc.convert.gguf.common import Config
from lrc.convert.gguf.metadata import Metadata
from lrc.convert.gguf.rope import Factors
from lrc.errors import FormatError

#: Epsilon of the norms of B, C and the step in Falcon-Mamba, for which GGUF has no key.
_FALCON_EPS = 1e-6


def mamba(meta: Metadata, factors: Factors) -> Config:
    """Mamba; Falcon-Mamba where B, C and the step are normed."""
    config = {
        "model_type": "mamba",
        **_common(meta),
        "time_step_rank": meta.count("ssm.time_step_rank"),
    }
    if meta.flag("ssm.dt_b_c_rms", False):
        return {**config, "model_type": "falcon_mamba", "mixer_rms_eps": _FALCON_EPS}
    return config


def mamba2(meta: Metadata, factors: Factors) -> Config:
    """Mamba-2."""
    config, heads = _common(meta), meta.count("ssm.time_step_rank")
    inner = meta.count("ssm.inner_size")
    if inner % heads:
        raise FormatError(f"{inner} channels and {heads} heads of the GGUF file do not fit")
    config.pop("intermediate_size")
    return {
        "model_type": "mamba2",
        **config,
        "num_heads": heads,
        "head_dim": inner // heads,
        "n_groups": meta.count("ssm.group_count", 1),
    }


def _common(meta: Metadata) -> Config:
    for key in ("context_length", "feed_forward_length", "attention.head_count"):
        meta.get(key)  # of no meaning where there is no attention
    hidden, inner = meta.count("embedding_length"), meta.count("ssm.inner_size")
    expand = inner / hidden
    return {
        "vocab_size": meta.vocabulary,
        "hidden_size": hidden,
        "intermediate_size": inner,
        "expand": int(expand) if expand == int(expand) else expand,
        "num_hidden_layers": meta.count("block_count"),
        "state_size": meta.count("ssm.state_size"),
        "conv_kernel": meta.count("ssm.conv_kernel"),
        "use_bias": meta.has("blk.0.ssm_in.bias"),
        "use_conv_bias": meta.has("blk.0.ssm_conv1d.bias"),
        "hidden_act": "silu",
        "layer_norm_epsilon": meta.number("attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": meta.tied,
    }
