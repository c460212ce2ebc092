"""Configurations of families close to Llama: what is read, harmless or refused, by name."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from families import ABSENT
from model_families import FAMILIES

from lrc.errors import FormatError, UnsupportedModelError
from lrc.models import MODELS

GATE = "gelu_pytorch_tanh"
#: What published files hold beside shapes, in models that are plain ones.
FOUND: dict[str, dict[str, Any]] = {
    "cohere": {
        "use_qk_norm": False, "attention_bias": False, "model_max_length": 131072,
        "attention_dropout": 0.0, "rope_scaling": None,
    },
    "cohere2": {
        "cache_implementation": "hybrid", "head_dim": 8, "layer_switch": 2, "rotary_pct": 1.0,
        "order_of_interleaved_layers": "local_attn_first", "use_gated_activation": True,
        "position_embedding_type": "rope_gptj", "use_embedding_sharing": True,
        "use_parallel_block": True, "use_parallel_embedding": True, "use_qk_norm": False,
        "layer_types": ["sliding_attention", "full_attention"], "attention_bias": False,
    },
    "gemma": {
        "hidden_act": "gelu", "hidden_activation": None, "attention_bias": False,
        "attention_dropout": 0.0, "use_bidirectional_attention": None, "rope_scaling": None,
    },
    "gemma2": {
        "cache_implementation": "hybrid", "sliding_window_size": 4096, "hidden_act": GATE,
        "attention_bias": False, "use_bidirectional_attention": None,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
    "gemma3_text": {
        "cache_implementation": "hybrid", "_sliding_window_pattern": 6, "attention_bias": False,
        "attn_logit_softcapping": None, "final_logit_softcapping": None,
        "use_bidirectional_attention": False, "hidden_act": GATE,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "granite": {"attention_bias": False, "mlp_bias": False, "attention_dropout": 0.1},
    "olmo2": {"attention_bias": False, "clip_qkv": None},
    "qwen3": {
        "use_sliding_window": False, "sliding_window": None, "max_window_layers": 28,
        "attention_bias": False, "layer_types": ["full_attention"] * 2,
    },
    "smollm3": {
        "max_window_layers": 28, "mlp_bias": False, "attention_bias": False, "pretraining_tp": 2,
        "sliding_window": None, "use_sliding_window": False, "no_rope_layers": [1, 0, 1, 0],
        "layer_types": ["full_attention"] * 2, "rope_scaling": None,
    },
}  # fmt: skip
REFUSED: list[tuple[str, str, object]] = [
    ("cohere", "rms_norm_eps", 1e-6),
    ("cohere", "mlp_bias", True),
    ("cohere", "sliding_window", 16),
    ("cohere2", "use_qk_norm", True),
    ("cohere2", "order_of_interleaved_layers", "global_attn_first"),
    ("cohere2", "use_parallel_block", False),
    ("cohere2", "position_embedding_type", "alibi"),
    ("gemma", "hidden_activation", "gelu"),
    ("gemma", "use_bidirectional_attention", True),
    ("gemma", "query_pre_attn_scalar", 100),
    ("gemma2", "hidden_act", "silu"),
    ("gemma2", "hidden_activation", "quick_gelu"),
    ("gemma2", "use_bidirectional_attention", True),
    ("gemma2", "use_qk_norm", True),
    ("gemma2", "layer_types", ["chunked_attention"] * 3),
    ("gemma3_text", "attn_logit_softcapping", 50.0),
    ("gemma3_text", "use_bidirectional_attention", True),
    ("gemma3_text", "rope_parameters", {"rope_theta": 500.0}),
    ("gemma3_text", "layer_types", ["chunked_attention"] * 2),
    ("granite", "logit_scale", 0.1),
    ("granite", "num_local_experts", 8),
    ("olmo2", "clip_qkv", 8.0),
    ("olmo2", "mlp_bias", True),
    ("olmo2", "sliding_window", 16),
    ("qwen3", "mlp_bias", True),
    ("qwen3", "num_experts", 8),
    ("qwen3", "layer_types", ["sliding_attention"] * 2),
    ("smollm3", "layer_types", ["sliding_attention"] * 2),
]
#: Family, changes, windows.
WINDOWS: list[tuple[str, dict[str, Any], tuple[int, ...]]] = [
    ("cohere2", {}, (7, 0, 7)),
    ("cohere2", {"sliding_window_pattern": ABSENT}, (7, 7, 7, 0, 7)),
    ("cohere2", {"sliding_window_pattern": 1}, (0, 0)),
    ("cohere2", {"layer_types": ["full_attention", "sliding_attention"]}, (0, 7)),
    ("cohere2", {"sliding_window": ABSENT}, (4096, 0)),
    ("gemma3_text", {"sliding_window_pattern": ABSENT}, (7, 7, 7, 7, 7, 0, 7)),
    ("gemma3_text", {"sliding_window": ABSENT}, (4096, 0)),
    ("gemma3_text", {"layer_types": ["full_attention", "sliding_attention"]}, (0, 7)),
    ("gemma2", {}, (7, 0, 7)),
    ("gemma2", {"sliding_window": ABSENT}, (4096, 0, 4096)),
    ("gemma2", {"layer_types": ["full_attention", "sliding_attention"] * 2}, (0, 7, 0, 7)),
    ("gemma2", {"layer_types": ["full_attention"] * 3}, (0, 0, 0)),
    ("smollm3", {"sliding_window": 5}, (0, 0)),
    ("smollm3", {"sliding_window": 5, "use_sliding_window": True}, (0, 5)),
    ("smollm3", {"sliding_window": None, "use_sliding_window": True}, (0, 0)),
    ("qwen3", {"use_sliding_window": True}, (0, 16)),
    ("qwen3", {"use_sliding_window": True, "sliding_window": ABSENT}, (0, 4096)),
]


def read(family: str, **changes: Any) -> Any:
    """The configuration of a family's first case, with changes."""
    config = dict(next(iter(FAMILIES[family].values())).config) | changes
    given = {key: value for key, value in config.items() if value is not ABSENT}
    return MODELS[family].read(given)  # type: ignore[attr-defined]


@pytest.mark.parametrize("family", FOUND)
def test_what_changes_nothing_is_accepted(family: str) -> None:
    assert read(family, **FOUND[family]) == read(family)


@pytest.mark.parametrize(("family", "key", "value"), REFUSED)
def test_what_would_be_left_out_is_refused_by_name(family: str, key: str, value: object) -> None:
    with pytest.raises(UnsupportedModelError, match=key):
        read(family, **{key: value})


@pytest.mark.parametrize("family", FOUND)
def test_a_key_that_nobody_knows_is_refused(family: str) -> None:
    with pytest.raises(UnsupportedModelError, match="a_key_nobody_knows"):
        read(family, a_key_nobody_knows=0)


@pytest.mark.parametrize("family", FOUND)
def test_no_key_has_two_meanings(family: str) -> None:
    keys = importlib.import_module(f"lrc.models.{family}").KEYS
    used, off, harmless = keys.used, set(keys.off), set(keys.harmless)
    assert len(used | off | harmless) == len(used) + len(off) + len(harmless)


@pytest.mark.parametrize(("family", "changes", "expected"), WINDOWS)
def test_the_window_of_each_block(
    family: str, changes: dict[str, Any], expected: tuple[int, ...]
) -> None:
    layers = {"num_hidden_layers": len(expected)}
    assert read(family, **layers | changes).windows == expected


def test_an_absent_cap_is_not_one_that_is_null() -> None:
    caps = ("attn_logit_softcapping", "final_logit_softcapping")
    silent = read("gemma2", **dict.fromkeys(caps, ABSENT))
    assert (silent.cap, silent.final_cap) == (50, 30)
    none = read("gemma2", **dict.fromkeys(caps))
    assert (none.cap, none.final_cap) == (0, 0)
    for key in caps:
        with pytest.raises(FormatError, match=f"{key}=0"):
            read("gemma2", **{key: 0})


def test_each_kind_of_block_has_its_rotary_positions() -> None:
    """Keys beside each other, in objects of their own, and absent."""
    beside = read("gemma3_text", rope_theta=500.0, rope_local_base_freq=50.0, rope_scaling=None)
    assert (beside.rope.theta, beside.local.theta) == (500, 50)
    kinds = {"full_attention": {"rope_theta": 300.0}, "sliding_attention": {"rope_theta": 30.0}}
    nested = read("gemma3_text", rope_parameters=kinds, rope_scaling=None)
    assert (nested.rope.theta, nested.local.theta) == (300, 30)
    keys = ("rope_theta", "rope_local_base_freq", "rope_scaling")
    silent = read("gemma3_text", **dict.fromkeys(keys, ABSENT))
    assert (silent.rope.theta, silent.local.theta) == (1e6, 1e4)


def test_which_blocks_are_not_rotated() -> None:
    assert read("smollm3", num_hidden_layers=3).rotated == (True, False, True)
    silent = read("smollm3", num_hidden_layers=5, no_rope_layer_interval=ABSENT)
    assert silent.rotated == (True, True, True, False, True)
    assert read("smollm3", no_rope_layers=[0, 1, 1]).rotated == (False, True)
    for given in ([1], [], [1, 2], "10", 4):
        with pytest.raises(FormatError, match="no_rope_layers="):
            read("smollm3", no_rope_layers=given)


def test_the_gate_of_the_first_files_of_gemma_is_the_other_one() -> None:
    gates = [read("gemma", hidden_act=name).activation for name in (GATE, "gelu", ABSENT, "silu")]
    assert gates == ["gelu_tanh", "gelu_tanh", "gelu_tanh", "silu"]


@pytest.mark.parametrize("key", ["embedding_multiplier", "residual_multiplier", "logits_scaling"])
@pytest.mark.parametrize("value", [0, -1.0, "1", True])
def test_a_multiplier_is_a_number_above_0(key: str, value: object) -> None:
    with pytest.raises(FormatError, match=f"{key}="):
        read("granite", **{key: value})
