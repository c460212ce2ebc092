"""Tiny models of every architecture of GGUF files, written as llama.cpp's converter writes them.

What is done to weights here is what that program does, in the other direction than the import
undoes it. Names of tensors are those that the package ``gguf`` has for the names of Hugging Face.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import tiny_gguf
from numpy.typing import NDArray

GOLDEN = Path(__file__).parent / "data" / "golden" / "gguf"
VOCAB = len(tiny_gguf.TOKENS)
Arrays = dict[str, NDArray[np.float32]]

_EXPERT = re.compile(r"(.+\.(?:experts|norms))\.(\d+)\.(.+)")


@dataclass(frozen=True)
class GgufCase:
    """A model: its configuration for transformers, and its settings in a GGUF file.

    ``fields`` are without the name of the architecture; ``extra`` are tensors that follow from the
    configuration.
    """

    architecture: str
    config: Mapping[str, Any]
    fields: Mapping[str, Any]
    extra: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)


#: Keys that most architectures share, and what the tiny models have under them.
SIZES = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 96,
    "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None,
}  # fmt: skip
FIELDS = {
    "block_count": 2, "context_length": 96, "embedding_length": 32, "feed_forward_length": 48,
    "attention.head_count": 4, "attention.head_count_kv": 2,
}  # fmt: skip
RMS = "attention.layer_norm_rms_epsilon"
NORM = "attention.layer_norm_epsilon"


def _case(
    architecture: str, model_type: str, config: Mapping[str, Any], fields: Mapping[str, Any],
    **extra: Any,
) -> GgufCase:  # fmt: skip
    return GgufCase(
        architecture,
        {"model_type": model_type, **SIZES, **config},
        {**FIELDS, **fields},
        **extra,
    )


def _long_factors(count: int) -> tuple[list[float], list[float]]:
    return [1.0 + i / 4 for i in range(count)], [1.0 + i / 16 for i in range(count)]


def _llama3_factors(theta: float, size: int) -> NDArray[np.float32]:
    wavelength = 2 * math.pi * theta ** (np.arange(0, size, 2) / size)
    smooth = np.clip((8192 / wavelength - 1) / 3, 0, 1)
    return np.asarray(1 / ((1 - smooth) / 8 + smooth), np.float32)


_LONG, _SHORT = _long_factors(3)
_MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
        "decoder_sparse_step": 1, "mlp_only_layers": []}  # fmt: skip
_MOE_FIELDS = {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 24}
_SSM = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4,
        "conv_kernel": 3, "expand": 2, "layer_norm_epsilon": 1e-4, "tie_word_embeddings": True,
        "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}  # fmt: skip
_SSM_FIELDS = {"block_count": 2, "context_length": 2**20, "embedding_length": 32,
               "feed_forward_length": 0, "attention.head_count": 0, "ssm.conv_kernel": 3,
               "ssm.inner_size": 64, "ssm.state_size": 4, RMS: 1e-4}  # fmt: skip
_GELU = "gelu_pytorch_tanh"

CASES: dict[str, GgufCase] = {
    "llama": _case(
        "llama", "llama",
        {"head_dim": 12, "rms_norm_eps": 1e-4, "rope_theta": 5000.0, "attention_bias": True,
         "mlp_bias": True},
        {"attention.key_length": 12, "attention.value_length": 12, RMS: 1e-4,
         "rope.freq_base": 5000.0, "rope.dimension_count": 12, "vocab_size": VOCAB},
    ),
    "llama3": _case(
        "llama", "llama",
        {"rms_norm_eps": 1e-5, "tie_word_embeddings": True, "rope_theta": 500000.0,
         "rope_scaling": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0,
                          "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                          "original_max_position_embeddings": 8192}},
        {RMS: 1e-5, "rope.freq_base": 500000.0, "rope.dimension_count": 8},
        extra={"rope_freqs.weight": _llama3_factors(500000.0, 8)},
    ),
    "mixtral": _case(
        "llama", "mixtral",
        {"rms_norm_eps": 1e-5, "rope_theta": 1e6, "num_local_experts": 4,
         "num_experts_per_tok": 2, "sliding_window": None},
        {RMS: 1e-5, "rope.freq_base": 1e6, "rope.dimension_count": 8, "expert_count": 4,
         "expert_used_count": 2},
    ),
    "qwen2": _case(
        "qwen2", "qwen2", {"rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": True},
        {RMS: 1e-6, "rope.freq_base": 1e6},
    ),
    "qwen2-yarn": _case(
        "qwen2", "qwen2",
        {"rms_norm_eps": 1e-6, "rope_theta": 1e4, "num_key_value_heads": 1,
         "rope_scaling": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0,
                          "original_max_position_embeddings": 24}},
        {RMS: 1e-6, "rope.freq_base": 1e4, "attention.head_count_kv": 1,
         "rope.scaling.type": "yarn", "rope.scaling.factor": 4.0,
         "rope.scaling.original_context_length": 24},
    ),
    "qwen3": _case(
        "qwen3", "qwen3", {"head_dim": 16, "rms_norm_eps": 1e-6, "rope_theta": 1e6},
        {"attention.key_length": 16, "attention.value_length": 16, RMS: 1e-6,
         "rope.freq_base": 1e6},
    ),
    "qwen2moe": _case(
        "qwen2moe", "qwen2_moe",
        {"rms_norm_eps": 1e-6, "rope_theta": 1e6, **_MOE, "shared_expert_intermediate_size": 40,
         "norm_topk_prob": False},
        {RMS: 1e-6, "rope.freq_base": 1e6, **_MOE_FIELDS,
         "expert_shared_feed_forward_length": 40},
    ),
    "qwen3moe": _case(
        "qwen3moe", "qwen3_moe",
        {"head_dim": 16, "rms_norm_eps": 1e-6, "rope_theta": 1e6, **_MOE, "norm_topk_prob": True},
        {"attention.key_length": 16, "attention.value_length": 16, RMS: 1e-6,
         "rope.freq_base": 1e6, **_MOE_FIELDS},
    ),
    "smollm3": _case(
        "smollm3", "smollm3",
        {"num_hidden_layers": 4, "rms_norm_eps": 1e-6, "rope_theta": 2e6,
         "no_rope_layer_interval": 4, "tie_word_embeddings": True},
        {"block_count": 4, RMS: 1e-6, "rope.freq_base": 2e6, "rope.dimension_count": 8,
         "vocab_size": VOCAB},
    ),
    "granite": _case(
        "granite", "granite",
        {"rms_norm_eps": 1e-5, "rope_theta": 1e4, "attention_multiplier": 0.25,
         "embedding_multiplier": 3.0, "residual_multiplier": 0.5, "logits_scaling": 4.0},
        {RMS: 1e-5, "rope.freq_base": 1e4, "rope.dimension_count": 8, "attention.scale": 0.25,
         "embedding_scale": 3.0, "residual_scale": 0.5, "logit_scale": 4.0},
    ),
    "olmo2": _case(
        "olmo2", "olmo2", {"rms_norm_eps": 1e-6, "rope_theta": 5e5},
        {RMS: 1e-6, "rope.freq_base": 5e5},
    ),
    "phi3": _case(
        "phi3", "phi3",
        {"rms_norm_eps": 1e-5, "rope_theta": 1e4, "partial_rotary_factor": 0.75,
         "original_max_position_embeddings": 8, "sliding_window": 5,
         "rope_scaling": {"rope_type": "longrope", "long_factor": _LONG, "short_factor": _SHORT}},
        {RMS: 1e-5, "rope.freq_base": 1e4, "rope.dimension_count": 6,
         "rope.scaling.original_context_length": 8, "attention.sliding_window": 5,
         "rope.scaling.attn_factor": math.sqrt(1 + math.log(96 / 8) / math.log(8))},
        extra={"rope_factors_long.weight": np.asarray(_LONG, np.float32),
               "rope_factors_short.weight": np.asarray(_SHORT, np.float32)},
    ),
    "phi3-plain": _case(
        "phi3", "phi3",
        {"rms_norm_eps": 1e-5, "rope_theta": 1e4, "original_max_position_embeddings": 96,
         "sliding_window": None},
        {RMS: 1e-5, "rope.freq_base": 1e4, "rope.dimension_count": 8,
         "rope.scaling.original_context_length": 96, "attention.sliding_window": 0},
    ),
    "phi2": _case(
        "phi2", "phi",
        {"num_key_value_heads": 4, "intermediate_size": 128, "layer_norm_eps": 1e-5,
         "partial_rotary_factor": 0.5, "hidden_act": "gelu_new"},
        {"attention.head_count_kv": 4, "feed_forward_length": 128, NORM: 1e-5,
         "rope.dimension_count": 4},
    ),
    "starcoder2": _case(
        "starcoder2", "starcoder2",
        {"norm_epsilon": 1e-5, "rope_theta": 1e5, "use_bias": True, "hidden_act": _GELU,
         "sliding_window": None, "tie_word_embeddings": True},
        {NORM: 1e-5, "rope.freq_base": 1e5},
    ),
    "stablelm": _case(
        "stablelm", "stablelm",
        {"layer_norm_eps": 1e-5, "partial_rotary_factor": 0.5, "use_qkv_bias": True,
         "use_parallel_residual": False, "qk_layernorm": False},
        {NORM: 1e-5, "rope.dimension_count": 4, "use_parallel_residual": True},
    ),
    "stablelm-parallel": _case(
        "stablelm", "stablelm",
        {"layer_norm_eps": 1e-5, "partial_rotary_factor": 0.25, "use_qkv_bias": False,
         "use_parallel_residual": True, "qk_layernorm": True},
        {NORM: 1e-5, "rope.dimension_count": 2, "use_parallel_residual": True},
    ),
    "command-r": _case(
        "command-r", "cohere",
        {"layer_norm_eps": 1e-5, "rope_theta": 1e4, "logit_scale": 0.5, "use_qk_norm": False,
         "tie_word_embeddings": True},
        {NORM: 1e-5, "rope.freq_base": 1e4, "logit_scale": 0.5, "rope.scaling.type": "none"},
    ),
    "command-r-plus": _case(
        "command-r", "cohere",
        {"layer_norm_eps": 1e-5, "rope_theta": 1e4, "logit_scale": 0.75, "use_qk_norm": True,
         "tie_word_embeddings": True},
        {NORM: 1e-5, "rope.freq_base": 1e4, "logit_scale": 0.75, "rope.scaling.type": "none"},
    ),
    "cohere2": _case(
        "cohere2", "cohere2",
        {"num_hidden_layers": 5, "layer_norm_eps": 1e-5, "rope_theta": 5e4, "logit_scale": 0.25,
         "sliding_window": 5, "head_dim": 8, "tie_word_embeddings": True},
        {"block_count": 5, "attention.key_length": 8, "attention.value_length": 8, NORM: 1e-5,
         "rope.freq_base": 5e4, "logit_scale": 0.25, "attention.sliding_window": 5,
         "vocab_size": VOCAB, "rope.dimension_count": 8, "rope.scaling.type": "none"},
    ),
    "gptneox": _case(
        "gptneox", "gpt_neox",
        {"layer_norm_eps": 1e-5, "rotary_pct": 0.5, "rotary_emb_base": 10000,
         "use_parallel_residual": True, "hidden_act": "gelu"},
        {"attention.head_count_kv": None, NORM: 1e-5, "rope.dimension_count": 4,
         "use_parallel_residual": True},
    ),
    "falcon": _case(
        "falcon", "falcon",
        {"num_kv_heads": 1, "ffn_hidden_size": 128, "layer_norm_epsilon": 1e-5,
         "multi_query": True, "new_decoder_architecture": False, "parallel_attn": True,
         "bias": False, "alibi": False, "tie_word_embeddings": True},
        {"attention.head_count_kv": 1, "feed_forward_length": 128, NORM: 1e-5,
         "tensor_data_layout": "jploski"},
    ),
    "falcon-40b": _case(
        "falcon", "falcon",
        {"num_kv_heads": 2, "ffn_hidden_size": 128, "layer_norm_epsilon": 1e-5,
         "multi_query": True, "new_decoder_architecture": True, "bias": False, "alibi": False},
        {"feed_forward_length": 128, NORM: 1e-5, "tensor_data_layout": "jploski"},
    ),
    "nemotron": _case(
        "nemotron", "nemotron",
        {"head_dim": 8, "norm_eps": 1e-5, "partial_rotary_factor": 0.5, "rope_theta": 1e4,
         "hidden_act": "relu2", "attention_bias": False, "mlp_bias": False},
        {"attention.key_length": 8, "attention.value_length": 8, RMS: 1e-5, NORM: 1e-5,
         "rope.freq_base": 1e4, "rope.dimension_count": 4, "rope.scaling.type": "none",
         "vocab_size": VOCAB},
    ),
    "starcoder": GgufCase(
        "starcoder",
        {"model_type": "gpt_bigcode", "vocab_size": VOCAB, "n_positions": 96, "n_embd": 32,
         "n_layer": 2, "n_head": 4, "n_inner": 128, "layer_norm_epsilon": 1e-5,
         "multi_query": True, "activation_function": _GELU, "bos_token_id": 1,
         "eos_token_id": 2, "tie_word_embeddings": True},
        {"block_count": 2, "context_length": 96, "embedding_length": 32,
         "feed_forward_length": 128, "attention.head_count": 4, "attention.head_count_kv": 1,
         NORM: 1e-5},
    ),
    "gpt2": GgufCase(
        "gpt2",
        {"model_type": "gpt2", "vocab_size": VOCAB, "n_positions": 96, "n_embd": 32, "n_layer": 2,
         "n_head": 4, "n_inner": 128, "layer_norm_epsilon": 1e-5, "bos_token_id": 1,
         "eos_token_id": 2, "tie_word_embeddings": True},
        {"block_count": 2, "context_length": 96, "embedding_length": 32,
         "feed_forward_length": 128, "attention.head_count": 4, NORM: 1e-5},
    ),
    "gemma": _case(
        "gemma", "gemma",
        {"head_dim": 12, "num_key_value_heads": 1, "rms_norm_eps": 1e-6, "hidden_act": _GELU,
         "tie_word_embeddings": True},
        {"attention.head_count_kv": 1, "attention.key_length": 12, "attention.value_length": 12,
         RMS: 1e-6},
    ),
    "gemma2": _case(
        "gemma2", "gemma2",
        {"num_hidden_layers": 3, "head_dim": 12, "rms_norm_eps": 1e-6, "sliding_window": 5,
         "query_pre_attn_scalar": 12, "attn_logit_softcapping": 4.0,
         "final_logit_softcapping": 3.0, "hidden_activation": _GELU, "tie_word_embeddings": True},
        {"block_count": 3, "attention.key_length": 12, "attention.value_length": 12, RMS: 1e-6,
         "attention.sliding_window": 5, "attn_logit_softcapping": 4.0,
         "final_logit_softcapping": 3.0},
    ),
    "gemma3": _case(
        "gemma3", "gemma3_text",
        {"num_hidden_layers": 7, "head_dim": 12, "rms_norm_eps": 1e-6, "sliding_window": 5,
         "query_pre_attn_scalar": 12, "hidden_activation": _GELU, "tie_word_embeddings": True,
         "rope_theta": 1e6, "rope_local_base_freq": 1e4,
         "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        {"block_count": 7, "attention.key_length": 12, "attention.value_length": 12, RMS: 1e-6,
         "attention.sliding_window": 5, "rope.freq_base": 1e6, "rope.scaling.type": "linear",
         "rope.scaling.factor": 8.0},
    ),
    "mamba": GgufCase(
        "mamba", {"model_type": "mamba", **_SSM, "time_step_rank": 3},
        {**_SSM_FIELDS, "ssm.time_step_rank": 3, "ssm.dt_b_c_rms": False},
    ),
    "falcon-mamba": GgufCase(
        "mamba",
        {"model_type": "falcon_mamba", **_SSM, "time_step_rank": 3, "tie_word_embeddings": False},
        {**_SSM_FIELDS, "ssm.time_step_rank": 3, "ssm.dt_b_c_rms": True},
    ),
    "mamba2": GgufCase(
        "mamba2",
        {"model_type": "mamba2", **_SSM, "num_heads": 8, "head_dim": 8, "n_groups": 2,
         "chunk_size": 4},
        {**_SSM_FIELDS, "ssm.time_step_rank": 8, "ssm.group_count": 2},
    ),
}  # fmt: skip


def draw(shapes: Mapping[str, tuple[int, ...]], shift: bool, seed: int) -> Arrays:
    """Random weights under Hugging Face names; norms around 0 where 1 is added to them."""
    rng = np.random.default_rng(seed)

    def values(name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        if name.endswith("A_log"):
            return np.log(rng.uniform(0.5, 8, shape))
        if name.endswith("bias"):
            return rng.normal(0, 0.3, shape)
        if len(shape) == 1 or "norm" in name:
            return rng.uniform(0.5, 1.5, shape) - shift
        return rng.standard_normal(shape) * 1.5 / np.sqrt(shape[-1])

    return {name: values(name, shapes[name]).astype(np.float32) for name in sorted(shapes)}


def shifted(case: GgufCase) -> bool:
    """Whether 1 is added to norms."""
    return case.architecture.startswith(("gemma", "nemotron"))


def stored(case: GgufCase, weights: Arrays) -> Arrays:
    """Tensors of the GGUF file of a model with these weights."""
    number = {name: key for key, name in gguf.MODEL_ARCH_NAMES.items()}[case.architecture]
    names = gguf.get_tensor_name_map(number, int(case.fields["block_count"]))
    found: Arrays = {}
    for name, values in _stacked(weights).items():
        for old, new in ((".dt_bias", ".dt_proj.bias"), (".norms.", ".")):
            name = name.replace(old, new)
        place = names.get_name(name, (".weight", ".bias"))
        assert place is not None, name
        found[place] = np.ascontiguousarray(_changed(case, name, values)).squeeze()
    return found | dict(case.extra)


def _stacked(weights: Arrays) -> Arrays:
    """Experts, and norms of single heads, in one tensor."""
    found: Arrays = {}
    stacks: dict[str, dict[int, NDArray[np.float32]]] = {}
    for name, values in weights.items():
        match = _EXPERT.fullmatch(name)
        if match:
            stacks.setdefault(f"{match[1]}.{match[3]}", {})[int(match[2])] = values
        else:
            found[name] = values
    return found | {
        name: np.stack([parts[i] for i in range(len(parts))]) for name, parts in stacks.items()
    }


def _changed(case: GgufCase, name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the converter does to a tensor."""
    heads = case.config.get("num_attention_heads", 1)
    if case.architecture in ("llama", "smollm3", "granite") and re.search(r"\.[qk]_proj\.", name):
        groups = heads if ".q_proj." in name else case.config["num_key_value_heads"]
        halves = values.reshape(groups, 2, -1, *values.shape[1:])
        return halves.swapaxes(1, 2).reshape(values.shape)
    if shifted(case) and name.endswith("norm.weight"):
        return values + np.float32(1)
    if case.architecture == "gpt2" and name.endswith(("attn.weight", "proj.weight", "fc.weight")):
        return values.T
    if "query_key_value" in name:
        groups = case.config.get("num_kv_heads", heads)
        parts = values.reshape(groups, heads // groups + 2, -1, *values.shape[1:])
        queries, keys, others = parts[:, :-2], parts[:, -2:-1], parts[:, -1:]
        rows = [part.reshape(-1, *values.shape[1:]) for part in (queries, keys, others)]
        return np.concatenate(rows)
    if name.endswith("A_log"):
        values = -np.exp(values)
    if case.architecture == "mamba2" and name.endswith(("A_log", ".D")):
        return values[:, None]
    if name.endswith("mixer.norm.weight"):
        return values.reshape(case.config["n_groups"], -1)
    return values


def write(path: Path, case: GgufCase, weights: Arrays, **options: Any) -> Path:
    """Write the GGUF file of a model with these weights."""
    fields = {f"{case.architecture}.{key}": value for key, value in case.fields.items()}
    others = {key: None for key in tiny_gguf.FIELDS if key.startswith("llama.")}
    return tiny_gguf.write(
        path, stored(case, weights), architecture=case.architecture,
        **{key.replace(".", "__"): value for key, value in (others | fields).items()}, **options,
    )  # fmt: skip
