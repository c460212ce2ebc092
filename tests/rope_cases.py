"""Rotary settings of every kind as files have them, and the rules of families that read them.

`tests/make_rope_golden.py` puts on record what transformers makes of each case,
`tests/models/test_decoder_rope.py` reads it here.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from lrc.models.decoder_rope import Rotary

#: Model type to the rule of the family, or to the rules of its kinds of blocks.
ROTARIES: dict[str, Rotary | Mapping[str, Rotary]] = {
    "llama": Rotary(),
    "mixtral": Rotary(1e6),
    "cohere": Rotary(500000.0, interleaved=True),
    "phi": Rotary(partial=0.5),
    "phi3": Rotary(partial=1.0, original=4096),
    "stablelm": Rotary(partial=0.25),
    "gpt_neox": Rotary(theta_key="rotary_emb_base", partial=0.25, partial_key="rotary_pct"),
    "gemma3_text": {
        "sliding_attention": Rotary(theta_key="rope_local_base_freq"),
        "full_attention": Rotary(1e6),
    },
    "olmo3": {
        "sliding_attention": Rotary(500000.0, theta_key=None),
        "full_attention": Rotary(500000.0),
    },
}


def _divisors(seed: int, pairs: int) -> list[float]:
    """Numbers that grow, with two decimals."""
    steps = np.random.default_rng(seed).uniform(0, 3, pairs)
    return [round(float(x), 2) for x in 1 + np.cumsum(steps)]


def _longrope(seed: int, pairs: int, key: str = "rope_type", **more: Any) -> dict[str, Any]:
    factors = {"short_factor": _divisors(seed, pairs), "long_factor": _divisors(seed + 1, pairs)}
    return {key: "longrope", **factors, **more}


_LINEAR = {"rope_type": "linear", "factor": 8.0}
_LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip
_YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
_SHORT_YARN = {**_YARN, "original_max_position_embeddings": 4}
_ORIGINAL = "original_max_position_embeddings"

#: What a file says beside the shapes, by a name; heads of 16 dims unless it says otherwise.
SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "default": ("llama", {"rope_theta": 500.0}),
    "default-of-family": ("mixtral", {}),
    "default-interleaved": ("cohere", {"rope_scaling": None}),
    "linear": ("llama", {"rope_scaling": _LINEAR}),
    "linear-partial": ("phi", {"rope_scaling": _LINEAR, "partial_rotary_factor": 0.75}),
    "dynamic": ("llama", {"rope_scaling": {"type": "dynamic", "factor": 2.0}}),
    "dynamic-large": (
        "llama", {"rope_parameters": {"rope_type": "dynamic", "factor": 8.5, "rope_theta": 5e4}},
    ),
    "dynamic-partial": ("stablelm", {"rope_scaling": {"rope_type": "dynamic", "factor": 4}}),
    "yarn": ("llama", {"rope_scaling": _YARN}),
    "yarn-whole": ("llama", {"rope_scaling": _YARN | {"truncate": True}, "head_dim": 64}),
    "yarn-not-truncated": (
        "llama", {"rope_scaling": _YARN | {"truncate": False}, "head_dim": 64},
    ),
    "yarn-betas": (
        "llama", {"rope_scaling": _YARN | {"beta_fast": 6, "beta_slow": 0.5}, "rope_theta": 150.0},
    ),
    "yarn-mscale": (
        "llama", {"rope_scaling": _YARN | {"mscale": 0.707, "mscale_all_dim": 1.0, "factor": 40}},
    ),
    "yarn-mscale-alone": ("llama", {"rope_scaling": _YARN | {"mscale": 2.0, "mscale_all_dim": 0}}),
    "yarn-attention": ("llama", {"rope_scaling": _YARN | {"attention_factor": 0.75}}),
    "yarn-null-factor": ("llama", {"rope_scaling": _YARN | {"factor": None}}),
    "yarn-shrinks": ("llama", {"rope_scaling": _YARN | {"factor": 0.5}}),
    "yarn-tiny-original": ("llama", {"rope_scaling": _SHORT_YARN}),
    "yarn-one-ramp": (
        "llama", {"rope_scaling": _YARN | {"beta_fast": 1.5, _ORIGINAL: 8}, "rope_theta": 1e6},
    ),
    "yarn-original-beside": ("llama", {"rope_scaling": _YARN, _ORIGINAL: 32}),
    "yarn-original-absent": ("llama", {"rope_scaling": {"type": "yarn", "factor": 4.0}}),
    "yarn-partial": ("phi", {"rope_scaling": _YARN | {"partial_rotary_factor": 0.25}}),
    "longrope": ("llama", {"rope_scaling": _longrope(1, 8, factor=4.0, **{_ORIGINAL: 32})}),
    "longrope-attention": (
        "llama", {"rope_scaling": _longrope(2, 8, attention_factor=1.25, **{_ORIGINAL: 32})},
    ),
    "longrope-original-absent": ("llama", {"rope_scaling": _longrope(3, 8)}),
    "longrope-phi3": ("phi3", {"rope_scaling": _longrope(4, 8), _ORIGINAL: 32}),
    "longrope-phi3-partial": (
        "phi3",
        {"rope_scaling": _longrope(5, 6), _ORIGINAL: 16, "partial_rotary_factor": 0.75},
    ),
    "longrope-phi3-su": (
        "phi3",
        {
            "rope_scaling": _longrope(6, 8, key="type") | {"type": "su", _ORIGINAL: 64},
            _ORIGINAL: 32,
        },
    ),
    "longrope-phi3-silent": (
        "phi3", {"rope_parameters": _longrope(7, 8), "max_position_embeddings": 8192},
    ),
    "llama3": ("llama", {"rope_scaling": _LLAMA3, "head_dim": 64}),
    "llama3-original-beside": ("llama", {"rope_scaling": _LLAMA3, _ORIGINAL: 32}),
    "partial-default": ("phi", {}),
    "partial-inside": (
        "phi",
        {"rope_parameters": {"partial_rotary_factor": 0.3}, "partial_rotary_factor": 0.75},
    ),
    "partial-neox": ("gpt_neox", {"rotary_pct": 0.5, "rotary_emb_base": 700}),
    "partial-neox-silent": ("gpt_neox", {}),
    "gemma3-older": (
        "gemma3_text",
        {"rope_theta": 2e6, "rope_local_base_freq": 700.0, "rope_scaling": _LINEAR},
    ),
    "gemma3-silent": ("gemma3_text", {}),
    "gemma3": (
        "gemma3_text",
        {
            "rope_parameters": {
                "full_attention": _YARN | {"rope_theta": 3e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 800.0},
            }
        },
    ),
    "gemma3-half": (
        "gemma3_text",
        {"rope_parameters": {"full_attention": {"type": "dynamic", "factor": 3.0}}},
    ),
    "olmo3": ("olmo3", {"rope_theta": 1e4, "rope_scaling": _YARN}),
}  # fmt: skip


def _drawn(seed: int) -> tuple[str, dict[str, Any]]:
    """Random settings: each kind in turn, of a whole head or of a part."""
    rng = np.random.default_rng(seed)
    kind = ("default", "linear", "dynamic", "yarn", "longrope", "llama3")[seed % 6]
    head_dim = int(rng.choice([8, 16, 24, 32]))
    part = float(rng.choice([0.5, 0.75])) if rng.random() < 0.5 else None
    dim = int(head_dim * (part or 1))
    low = round(float(rng.uniform(0.5, 4)), 2)
    settings: dict[str, Any] = {
        "default": {},
        "linear": {},
        "dynamic": {},
        "yarn": {"beta_slow": low, "beta_fast": low + round(float(rng.uniform(1, 30)), 2)},
        "longrope": _longrope(seed, dim // 2),
        "llama3": {"low_freq_factor": low, "high_freq_factor": low + 2.5},
    }[kind]
    if kind in ("yarn", "longrope", "llama3"):
        settings[_ORIGINAL] = int(rng.choice([16, 32, 64]))
    if kind != "default":
        settings["factor"] = round(float(rng.uniform(1, 40)), 2)
    settings |= {"rope_type": kind, "rope_theta": float(rng.choice([100.0, 1e4, 1e6]))}
    family = "llama" if part is None else "phi"
    more = {} if part is None else {"partial_rotary_factor": part}
    return family, {"rope_parameters": settings, "head_dim": head_dim, **more}


SETTINGS |= {f"drawn-{seed}": _drawn(seed) for seed in range(24)}


def config(name: str) -> dict[str, Any]:
    """The configuration of a case, sharing nothing: transformers changes what it reads."""
    family, given = SETTINGS[name]
    shapes: dict[str, Any] = {
        "model_type": family, "hidden_size": 64, "num_attention_heads": 4,
        "num_key_value_heads": 4, "num_hidden_layers": 6, "intermediate_size": 64,
        "vocab_size": 32, "pad_token_id": 0, "max_position_embeddings": 128,
    }  # fmt: skip
    if isinstance(ROTARIES[family], Mapping):
        shapes["head_dim"] = 16
    return copy.deepcopy(shapes | given)
