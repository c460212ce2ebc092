"""Configurations of families with the block of GPT-2: what is read, harmless or refused."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from model_families import FAMILIES

from lrc.errors import FormatError, LrcError, UnsupportedModelError
from lrc.models import MODELS
from lrc.models.alibi import alibi_slopes

_SUMMARY = {
    "summary_activation": None, "summary_first_dropout": 0.1, "summary_proj_to_labels": True,
    "summary_type": "cls_index", "summary_use_proj": True, "n_ctx": 1024,
    "gradient_checkpointing": False, "resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1,
    "initializer_range": 0.02, "use_cache": True, "scale_attn_weights": True,
}  # fmt: skip
#: What published files hold beside shapes, in models that are plain ones.
FOUND: dict[str, dict[str, Any]] = {
    "bloom": {
        "apply_residual_connection_post_layernorm": False, "attention_softmax_in_fp32": True,
        "bias_dropout_fusion": True, "masked_softmax_fusion": True, "offset_alibi": 100,
        "pretraining_tp": 1, "skip_bias_add": True, "skip_bias_add_qkv": False,
        "slow_but_exact": False, "n_inner": None, "hidden_dropout": 0.0, "unk_token_id": 0,
    },
    "codegen": {**_SUMMARY, "tokenizer_class": "GPT2Tokenizer"},
    "falcon": {
        "alibi": False, "apply_residual_connection_post_layernorm": False, "bias": False,
        "multi_query": True, "new_decoder_architecture": False, "parallel_attn": True,
        "num_kv_heads": 71, "ff_factor": 4, "hidden_dropout": 0.0, "attention_dropout": 0.0,
    },
    "gpt2": {
        **_SUMMARY, "scale_attn_by_inverse_layer_idx": False, "reorder_and_upcast_attn": False,
        "task_specific_params": {"text-generation": {"do_sample": True, "max_length": 50}},
        "add_cross_attention": False, "output_past": True,
    },
    "gpt_bigcode": {
        **_SUMMARY, "attention_softmax_in_fp32": True, "scale_attention_softmax_in_fp32": True,
        "multi_query": True, "inference_runner": 0, "validate_runner_input": True,
        "pre_allocate_kv_cache": False, "max_sequence_length": None, "max_batch_size": None,
        "pad_key_length": True,
    },
    "gpt_neo": {
        **_SUMMARY, "attention_layers": ["global", "local"], "resid_dropout": 0,
        "embed_dropout": 0, "classifier_dropout": 0.1,
    },
    "gpt_neox": {
        "use_parallel_residual": True, "attention_bias": True, "classifier_dropout": 0.1,
        "hidden_dropout": 0.0, "attention_dropout": 0.0, "rope_scaling": None,
    },
    "gptj": {**_SUMMARY, "rotary": True, "task_specific_params": None},
    "mpt": {
        "expansion_ratio": 4, "no_bias": True, "logit_scale": None, "learned_pos_emb": True,
        "norm_type": "low_precision_layernorm", "emb_pdrop": 0, "resid_pdrop": 0, "verbose": 0,
        "embedding_fraction": 1.0, "init_device": "cpu", "tokenizer_name": "a tokenizer",
        "init_config": {"name": "kaiming_normal_", "fan_mode": "fan_in"},
    },
    "nemotron": {"attention_bias": False, "mlp_bias": False, "initializer_range": 0.0134},
    "opt": {
        "_remove_final_layer_norm": False, "activation_dropout": 0.0, "layerdrop": 0.0,
        "do_layer_norm_before": True, "word_embed_proj_dim": 32, "prefix": "</s>",
        "init_std": 0.02, "dropout": 0.1, "layer_norm_elementwise_affine": True,
    },
    "phi": {
        "qk_layernorm": False, "embd_pdrop": 0.0, "resid_pdrop": 0.1, "attention_dropout": 0.0,
        "rope_scaling": None,
    },
    "phi3": {
        "attention_bias": False, "mlp_bias": False, "lm_head_bias": False, "full_attn_mod": 1,
        "interpolate_factor": 1, "embd_pdrop": 0.0, "resid_pdrop": 0.0, "rope_scaling": None,
        "original_max_position_embeddings": 4096, "partial_rotary_factor": 1.0,
    },
    "stablelm": {
        "use_qkv_bias": False, "hidden_dropout": 0.0, "attention_dropout": 0.0,
        "rope_scaling": None,
    },
    "starcoder2": {
        "embedding_dropout": 0.0, "residual_dropout": 0.0, "mlp_type": "default",
        "norm_type": "layer_norm", "initializer_range": 0.018042, "layer_norm_epsilon": 1e-5,
    },
}  # fmt: skip
REFUSED: list[tuple[str, str, object]] = [
    ("bloom", "apply_residual_connection_post_layernorm", True),
    ("bloom", "n_inner", 56),
    ("bloom", "num_attention_heads", 4),
    ("bloom", "hidden_act", "gelu"),
    ("codegen", "rope_theta", 1e4),
    ("codegen", "rope_parameters", {"rope_type": "linear", "factor": 2.0}),
    ("falcon", "alibi", True),
    ("falcon", "num_ln_in_parallel_attn", 2),
    ("falcon", "num_key_value_heads", 2),
    ("falcon", "activation", "mish"),
    ("gpt2", "activation_function", "tanh"),
    ("gpt2", "hidden_size", 32),
    ("gpt2", "num_key_value_heads", 4),
    ("gpt2", "rope_theta", 1e4),
    ("gpt2", "add_cross_attention", True),
    ("gpt_bigcode", "scale_attn_by_inverse_layer_idx", True),
    ("gpt_neo", "scale_attn_by_inverse_layer_idx", True),
    ("gpt_neo", "sliding_window", 7),
    ("gpt_neox", "rope_theta", 500.0),
    ("gpt_neox", "partial_rotary_factor", 0.5),
    ("gpt_neox", "head_dim", 8),
    ("gptj", "rope_scaling", {"rope_type": "linear", "factor": 2.0}),
    ("gptj", "partial_rotary_factor", 0.5),
    ("mpt", "expansion_ratio", 2),
    ("mpt", "no_bias", False),
    ("mpt", "logit_scale", 0.5),
    ("mpt", "hidden_size", 32),
    ("mpt", "attn_config", {"alibi": False}),
    ("mpt", "attn_config", {"alibi_bias_max": 16}),
    ("mpt", "attn_config", {"clip_qkv": 8.0}),
    ("mpt", "attn_config", {"qk_ln": True}),
    ("mpt", "attn_config", {"attn_type": "multiquery_attention"}),
    ("mpt", "attn_config", {"a_key_nobody_knows": 1}),
    ("nemotron", "rms_norm_eps", 1e-6),
    ("opt", "do_layer_norm_before", False),
    ("opt", "_remove_final_layer_norm", True),
    ("opt", "layer_norm_elementwise_affine", False),
    ("opt", "word_embed_proj_dim", 16),
    ("opt", "activation_function", "quick_gelu"),
    ("opt", "num_key_value_heads", 2),
    ("opt", "rope_theta", 1e4),
    ("opt", "rms_norm_eps", 1e-6),
    ("phi", "attention_bias", True),
    ("phi", "sliding_window", 7),
    ("phi3", "full_attn_mod", 2),
    ("phi3", "lm_head_bias", True),
    ("phi3", "attention_bias", True),
    ("stablelm", "head_dim", 8),
    ("stablelm", "mlp_bias", True),
    ("starcoder2", "hidden_act", "mish"),
    ("starcoder2", "rms_norm_eps", 1e-6),
    ("starcoder2", "mlp_bias", True),
]


def plain(family: str) -> dict[str, Any]:
    return dict(next(iter(FAMILIES[family].values())).config)


def read(family: str, **changes: Any) -> Any:
    """The configuration of a family's first case, with changes."""
    return MODELS[family].read(plain(family) | changes)  # type: ignore[attr-defined]


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


def test_norms_and_key_heads_of_falcon_are_those_of_its_architecture() -> None:
    new = {"new_decoder_architecture": True}
    with pytest.raises(UnsupportedModelError, match="parallel_attn"):
        read("falcon", **new, parallel_attn=False)
    with pytest.raises(FormatError, match="num_kv_heads=3"):
        read("falcon", **new, num_kv_heads=3)
    assert read("falcon", **new).kv_heads == read("falcon", multi_query=False).kv_heads == 8
    assert read("falcon", num_kv_heads=4).kv_heads == 1


@pytest.mark.parametrize("kind", ["linear", "yarn"])
def test_phi3_knows_longrope_alone(kind: str) -> None:
    with pytest.raises(UnsupportedModelError, match=f"rope_type='{kind}'"):
        read("phi3", rope_scaling={"rope_type": kind, "factor": 2.0})


@pytest.mark.parametrize("family", ["falcon", "mpt", "phi", "phi3"])
def test_code_that_transformers_has_taken_over_is_fine(family: str) -> None:
    module = f"modeling_{family}"
    for place in (f"{module}.Model", f"maker/model--{module}.Model"):
        assert read(family, auto_map={"AutoModelForCausalLM": place}) == read(family)
    other = {"AutoConfig": f"configuration_{family}.Config", "AutoModel": "modeling_own.Model"}
    with pytest.raises(UnsupportedModelError, match=r"auto_map names code .* for AutoModel,"):
        read(family, auto_map=other)


@pytest.mark.parametrize(
    "changes",
    [
        {"attention_types": [[["global", "local"], 2]]},
        {"attention_types": [[["global", "other"], 1]]},
        {"attention_types": [[["global", ["local"]], 1]]},
        {"attention_types": [[["global", "local"], 10**30]]},
        {"attention_types": ["global", "local"]},
        {"attention_types": None},
        {"attention_layers": ["local", "global"]},
    ],
)
def test_kinds_of_blocks_of_gpt_neo_are_counted(changes: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match=next(iter(changes))):
        read("gpt_neo", **changes)


def test_codegen_has_four_stretches() -> None:
    with pytest.raises(FormatError, match="n_head=2"):
        read("codegen", n_head=2)


def test_slopes_of_heads_are_powers_of_two() -> None:
    for heads in (1, 2, 8, 16):
        exponents = np.log2(alibi_slopes(heads))
        np.testing.assert_allclose(exponents, -8 / heads * np.arange(1, heads + 1))
    assert alibi_slopes(12)[:8] == alibi_slopes(8)
    assert alibi_slopes(12)[8:] == alibi_slopes(16)[:8:2]


def test_other_names_of_bloom_mean_the_same() -> None:
    usual = plain("bloom")
    older = {
        **{key: usual[key] for key in usual if key not in ("hidden_size", "n_layer", "n_head")},
        "n_embed": usual["hidden_size"],
        "num_hidden_layers": usual["n_layer"],
        "num_attention_heads": usual["n_head"],
    }
    assert MODELS["bloom"].read(older) == read("bloom")  # type: ignore[attr-defined]


def test_a_message_names_the_key_that_the_family_has() -> None:
    with pytest.raises(FormatError, match="ffn_dim=0"):
        read("opt", ffn_dim=0)
    with pytest.raises(FormatError, match="hidden_size=32 must be a multiple of num_attention_h"):
        read("opt", num_attention_heads=3)


def test_a_width_of_its_own_is_no_other_key() -> None:
    with pytest.raises(LrcError, match="intermediate_size"):
        read("opt", intermediate_size=56)
    config = plain("opt")
    del config["ffn_dim"]
    with pytest.raises(LrcError, match="intermediate_size"):
        MODELS["opt"].declared(config | {"intermediate_size": 56})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [({}, True), ({"tie_word_embeddings": None}, False), ({"tie_word_embeddings": False}, False)],
)
def test_ties_are_the_default_of_these(changes: dict[str, Any], expected: bool) -> None:
    for family in ("opt", "starcoder2"):
        config = {k: v for k, v in plain(family).items() if k != "tie_word_embeddings"}
        tables = MODELS[family].declared(config | changes).tables
        assert ("head" not in tables) == expected
