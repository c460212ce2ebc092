"""Keys of ``config.json`` that dense decoders share: read, off, or harmless."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from lrc.models.common_keys import COMMON_HARMLESS, COMMON_OFF
from lrc.models.config_reader import ConfigKeys

#: What `lrc.models.decoder_config.decoder_fields` reads.
_USED = (
    "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings", "rms_norm_eps",
    "rope_theta", "rope_scaling", "rope_parameters", "tie_word_embeddings", "bos_token_id",
    "layer_types", "original_max_position_embeddings", "hidden_act",
)  # fmt: skip

#: Things that only some decoders compute, under the names that they use for them.
_OFF: dict[str, tuple[object, ...]] = {
    "attention_bias": (None, False),
    "mlp_bias": (None, False),
    "sliding_window": (None,),
    "use_sliding_window": (None, False),
    "use_bidirectional_attention": (None, False),
    "attention_chunk_size": (None,),
    "partial_rotary_factor": (None, 1),
    "rotary_pct": (None, 1),
    "rope_interleaved": (None, False),
    "rope_condense_ratio": (None, 1),
    "use_mrope": (None, False),
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
#: Of a family without rotary positions.
NO_ROTARY: dict[str, str | None] = dict.fromkeys(
    ("rope_theta", "rope_scaling", "rope_parameters", "original_max_position_embeddings")
)
_HARMLESS = {
    "pretraining_tp": "splits products into parts whose sum is the same",
    "num_experts_per_tok": "is read only where there are experts",
    "max_window_layers": "is read only where some blocks have a sliding window",
    "multiple_of": "the file gives the width that follows from it",
    "ffn_dim_multiplier": "the file gives the width that follows from it",
}


def decoder_keys(
    family: str,
    used: Collection[str] = (),
    off: Mapping[str, tuple[object, ...]] | None = None,
    harmless: Mapping[str, str] | None = None,
    spelled: Mapping[str, str | None] | None = None,
    own_code: Collection[str] = (),
) -> ConfigKeys:
    """All keys of a family, from those that it knows beside the common ones.

    A key that it uses is no longer harmless, and one that it uses or knows to be harmless is no
    longer off. ``spelled``, ``own_code``: see `ConfigKeys`.
    """
    own = spelled or {}
    usual = (own.get(key, key) for key in _USED)
    read = {*used, *(key for key in usual if key is not None)}
    kept = {k: v for k, v in (COMMON_HARMLESS | _HARMLESS).items() if k not in read}
    mine = {*read, *(harmless or {})}
    return ConfigKeys(
        family=family,
        used=frozenset(read),
        off={k: v for k, v in (COMMON_OFF | _OFF | dict(off or {})).items() if k not in mine},
        harmless=kept | dict(harmless or {}),
        spelled=own,
        own_code=frozenset(own_code),
    )


#: Kind of rotary positions to the keys of ``rope_parameters`` and ``rope_scaling`` that it reads.
ROPE_KEYS: dict[str, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": (
        "factor", "original_max_position_embeddings", "attention_factor", "mscale",
        "mscale_all_dim", "beta_fast", "beta_slow", "truncate",
    ),
    "longrope": (
        "factor", "original_max_position_embeddings", "attention_factor", "short_factor",
        "long_factor",
    ),
    "llama3": (
        "factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor",
    ),
}  # fmt: skip
_UNREAD = "this kind of rotary positions does not read it"


def rope_keys(family: str, kind: str, partial: bool) -> ConfigKeys:
    """All keys of rotary settings of one kind; ``partial``: whether a part of a head may turn."""
    used = {"rope_type", "type", "rope_theta", *ROPE_KEYS[kind]}
    part = "partial_rotary_factor"
    unread = {"factor", "original_max_position_embeddings"} - used
    return ConfigKeys(
        family=family,
        used=frozenset(used | {part} if partial else used),
        off={} if partial else {part: (None, 1)},
        harmless=dict.fromkeys(unread, _UNREAD),
    )
