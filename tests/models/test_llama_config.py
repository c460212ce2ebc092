"""A Llama configuration: every key is read, harmless or refused; one order where keys disagree."""

from __future__ import annotations

from typing import Any

import pytest
from tiny_llama import LLAMA3, tiny_config, tiny_model

from lrc.errors import UnsupportedModelError
from lrc.models.llama import KEYS, LlamaConfig
from lrc.nn.rope_scaling import Interpolation, Llama3, Scaling, Unscaled

#: What transformers 5.24 writes for a Llama model, beside the shapes.
TRANSFORMERS_5 = {
    "transformers_version": "5.24.0", "architectures": None, "output_hidden_states": False,
    "return_dict": True, "dtype": None, "chunk_size_feed_forward": 0,
    "is_encoder_decoder": False, "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "label2id": {"LABEL_0": 0, "LABEL_1": 1}, "problem_type": None, "initializer_range": 0.02,
    "use_cache": True, "pad_token_id": None, "pretraining_tp": 1, "attention_dropout": 0.0,
    "_name_or_path": "", "output_attentions": False,
}  # fmt: skip
#: What older versions wrote when asked for every key.
TRANSFORMERS_4 = {
    "return_dict": True, "output_hidden_states": False, "output_attentions": False,
    "torchscript": False, "torch_dtype": "bfloat16", "use_bfloat16": False,
    "tf_legacy_loss": False, "pruned_heads": {}, "chunk_size_feed_forward": 0,
    "is_encoder_decoder": False, "is_decoder": False, "cross_attention_hidden_size": None,
    "add_cross_attention": False, "tie_encoder_decoder": False, "max_length": 20,
    "min_length": 0, "do_sample": False, "early_stopping": False, "num_beams": 1,
    "num_beam_groups": 1, "diversity_penalty": 0.0, "temperature": 1.0, "top_k": 50,
    "top_p": 1.0, "typical_p": 1.0, "repetition_penalty": 1.0, "length_penalty": 1.0,
    "no_repeat_ngram_size": 0, "encoder_no_repeat_ngram_size": 0, "bad_words_ids": None,
    "num_return_sequences": 1, "output_scores": False, "return_dict_in_generate": False,
    "forced_bos_token_id": None, "forced_eos_token_id": None, "remove_invalid_values": False,
    "exponential_decay_length_penalty": None, "suppress_tokens": None,
    "begin_suppress_tokens": None, "architectures": ["LlamaForCausalLM"], "finetuning_task": None,
    "tokenizer_class": None, "prefix": None, "pad_token_id": 0, "sep_token_id": None,
    "decoder_start_token_id": None, "task_specific_params": None, "problem_type": None,
    "_name_or_path": "somewhere/model", "transformers_version": "4.31.0",
    "_attn_implementation_autoset": True,
}  # fmt: skip
#: What is found beside those in files of Llama models that are plain Llama.
FOUND = {
    "pretraining_tp": 2, "is_llama_config": True, "rope_interleaved": False,
    "unsloth_fixed": True, "unsloth_version": "2025.1.5", "max_sequence_length": 2048,
    "transformers.js_config": {"kv_cache_dtype": {"fp16": "float16"}},
    "auto_map": {"AutoTokenizer": "tokenization.Tokenizer"}, "quantization_config": None,
    "some_key_of_tomorrow": None, "hidden_act": "swish", "original_max_position_embeddings": 64,
}  # fmt: skip


@pytest.mark.parametrize("found", [TRANSFORMERS_5, TRANSFORMERS_4, FOUND])
def test_what_changes_nothing_is_accepted(found: dict[str, Any]) -> None:
    assert LlamaConfig.from_dict(tiny_config(**found)) == LlamaConfig.from_dict(tiny_config())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attn_logit_softcapping", 50.0),
        ("final_logit_softcapping", 30.0),
        ("embedding_multiplier", 12.0),
        ("residual_multiplier", 0.22),
        ("attention_multiplier", 0.01),
        ("logits_scaling", 8.0),
        ("use_qk_norm", True),
        ("num_local_experts", 8),
        ("no_rope_layers", [1, 1, 1, 0]),
        ("clip_qkv", 8.0),
        ("qkv_bias", True),
        ("rope_condense_ratio", 8),
        ("pruned_heads", {"0": [1]}),
        ("quantization", {"bits": 4}),
        ("a_key_nobody_knows", 0),
        ("rotary_embedding_base", 1000),
        ("auto_map", {"AutoModelForCausalLM": "modeling.Model"}),
        ("auto_map", "modeling.Model"),
    ],
)
def test_what_would_be_left_out_is_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(UnsupportedModelError, match=key):
        LlamaConfig.from_dict(tiny_config(**{key: value}))


def test_values_that_switch_a_thing_off_are_accepted() -> None:
    off = {key: values[-1] for key, values in KEYS.off.items()}
    assert LlamaConfig.from_dict(tiny_config(**off)) == LlamaConfig.from_dict(tiny_config())


def test_many_unknown_keys_are_one_short_line() -> None:
    unknown = {f"odd_{i}": "x" * 500 for i in range(9)}
    with pytest.raises(UnsupportedModelError, match=r"odd_0=.*odd_3=.*and 5 more") as caught:
        LlamaConfig.from_dict(tiny_config(**unknown))
    assert len(str(caught.value)) < 500


def test_no_key_has_two_meanings() -> None:
    used, off, harmless = KEYS.used, set(KEYS.off), set(KEYS.harmless)
    assert len(used | off | harmless) == len(used) + len(off) + len(harmless)
    assert all(KEYS.harmless.values())


LINEAR = {"rope_type": "linear", "factor": 2.0}
HALVED, AS_LLAMA3 = Interpolation(2.0), Llama3(8.0, 1.0, 4.0, 32)
#: Rotary keys that disagree, and what transformers 5.24 makes of them: theta and scaling.
PRECEDENCE: list[tuple[dict[str, Any], tuple[float, Scaling]]] = [
    ({"rope_theta": 500.0}, (500.0, Unscaled())),
    ({}, (10000.0, Unscaled())),
    (
        {"rope_parameters": {"rope_theta": 500.0, "rope_type": "default"}, "rope_scaling": LLAMA3},
        (10000.0, AS_LLAMA3),
    ),
    (
        {"rope_parameters": {**LLAMA3, "rope_theta": 500.0}, "rope_scaling": LINEAR},
        (10000.0, HALVED),
    ),
    ({"rope_theta": 700.0, "rope_parameters": {"rope_type": "default"}}, (700.0, Unscaled())),
    ({"rope_theta": 700.0, "rope_parameters": {"rope_theta": 500.0}}, (500.0, Unscaled())),
    (
        {"rope_theta": 700.0, "rope_scaling": {**LLAMA3, "rope_theta": 500.0}},
        (500.0, AS_LLAMA3),
    ),
    ({"rope_theta": 70.0, "rope_parameters": LINEAR}, (70.0, HALVED)),
    ({"rope_scaling": {"type": "linear", "factor": 2.0}}, (10000.0, HALVED)),
    ({"rope_scaling": {**LINEAR, "type": "default"}}, (10000.0, HALVED)),
    (
        {"rope_scaling": {"type": "linear", "rope_type": "default", "factor": 2.0}},
        (10000.0, Unscaled()),
    ),
    (
        {"rope_parameters": {**LINEAR, "rope_theta": 5.0}, "rope_scaling": None},
        (5.0, HALVED),
    ),
    ({"rope_parameters": {**LINEAR, "rope_theta": 5.0}, "rope_scaling": {}}, (5.0, HALVED)),
    ({"rope_parameters": {}, "rope_scaling": LINEAR}, (10000.0, HALVED)),
    ({"rope_scaling": {"factor": 2.0}}, (10000.0, Unscaled())),
]


@pytest.mark.parametrize(("given", "expected"), PRECEDENCE)
def test_rotary_keys_that_disagree(given: dict[str, Any], expected: tuple[float, Scaling]) -> None:
    config = {key: value for key, value in tiny_config().items() if key != "rope_theta"}
    rope = LlamaConfig.from_dict(config | given).rope
    assert (rope.theta, rope.scaling) == expected


@pytest.mark.parametrize(
    "given",
    [
        {"rope_scaling": {**LINEAR, "attention_factor": 0.5}},
        {"rope_parameters": {"full_attention": {"rope_theta": 5.0}}},
    ],
)
def test_rotary_settings_that_would_be_left_out_are_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedModelError, match=r"attention_factor|full_attention"):
        LlamaConfig.from_dict(tiny_config(**given))


def test_head_width_given_comes_before_the_one_that_follows() -> None:
    assert LlamaConfig.from_dict(tiny_config(head_dim=None)).head_dim == 8
    assert LlamaConfig.from_dict(tiny_config(head_dim=16)).head_dim == 16
    assert tiny_model(pretraining_tp=2).config == tiny_model().config
