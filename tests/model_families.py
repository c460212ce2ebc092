"""Tiny random models of every family: one that joins this table inherits the laws of models.

A row holds a family's cases, whose configurations differ in all that it knows, and the folder of
the golden files that each of them is compared with (`tests/make_parity_golden.py`). The first case
of a family also goes through every command (`tests/pipeline/test_families.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tiny_llama
from families import SILENT, without_absent
from families.cohere import COHERE, COHERE2
from families.gemma import GEMMA, GEMMA2, GEMMA3_TEXT
from families.gpt import (
    BLOOM,
    CODEGEN,
    FALCON,
    GPT2,
    GPT_BIGCODE,
    GPT_NEO,
    GPT_NEOX,
    GPTJ,
    MPT,
    NEMOTRON,
    OPT,
    PHI,
    PHI3,
    STABLELM,
    STARCODER2,
)
from families.kin import (
    ARCEE,
    ERNIE4_5,
    EXAONE4,
    GLM,
    HELIUM,
    HUNYUAN_V1_DENSE,
    MINISTRAL,
    MINISTRAL3,
    OLMO3,
    SEED_OSS,
)
from families.mistral import MISTRAL
from families.others import GRANITE, OLMO2, SMOLLM3
from families.qwen3 import QWEN3
from families.seeing import GEMMA3, MISTRAL3
from families.state_space import FALCON_MAMBA, MAMBA, MAMBA2
from numpy.typing import NDArray
from random_weights import MemorySource, random_weights

from lrc.models import declared, load_model
from lrc.models.base import Model

GOLDEN = Path(__file__).parent / "data" / "golden"


@dataclass(frozen=True)
class Case:
    """A configuration, and the file without its ending of the logits that it must give."""

    config: Mapping[str, Any]
    golden: Path

    @property
    def vocab(self) -> int:
        return int(self.config.get("text_config", self.config)["vocab_size"])

    def changed(self, **changes: Any) -> dict[str, Any]:
        """The configuration, with changes of what it says of text."""
        if "text_config" in self.config:
            return {**self.config, "text_config": {**self.config["text_config"], **changes}}
        return {**self.config, **changes}

    def source(self, seed: int) -> MemorySource:
        config = dict(self.config)
        return MemorySource(config, random_weights(declared(config), seed))

    def model(self, seed: int) -> Model:
        return load_model(self.source(seed))

    def logits(self) -> tuple[int, NDArray[np.int32], NDArray[np.float32]]:
        """The seed of the weights, token ids (B, T), and transformers' logits."""
        with np.load(self.golden.with_suffix(".npz")) as file:
            return int(file["seed"]), file["ids"], file["logits"]


def cases(
    family: str,
    architecture: str,
    rows: Mapping[str, Mapping[str, Any]],
    base: Mapping[str, Any] = tiny_llama.BASE,
) -> dict[str, Case]:
    """Cases from what they change in ``base``."""
    named = {**base, "model_type": family, "architectures": [architecture]}
    return {
        name: Case(without_absent({**named, **row}), GOLDEN / "parity" / family / name)
        for name, row in rows.items()
    }


QWEN2 = {
    "grouped_tied": {
        "num_key_value_heads": 2, "tie_word_embeddings": True, "rope_theta": 1e6,
        "use_sliding_window": False, "sliding_window": 16, "max_window_layers": 1,
    },
    "wide_heads": {"head_dim": 12, "num_key_value_heads": 1, "layer_types": ["full_attention"] * 2},
    "silent": {"hidden_size": 64, "num_attention_heads": 32, **SILENT},
    "upper_windows": {
        "use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1,
        "num_hidden_layers": 3,
    },
    "chosen_windows": {
        "use_sliding_window": True, "sliding_window": 9, "num_hidden_layers": 3,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    },
}  # fmt: skip

MIXTRAL = {
    "plain": {"num_local_experts": 4, "num_experts_per_tok": 2, "intermediate_size": 40},
    "window": {
        "num_local_experts": 9, "num_experts_per_tok": 3, "sliding_window": 7, "head_dim": 12,
        "num_key_value_heads": 1, "intermediate_size": 24, "tie_word_embeddings": True,
    },
    "single": {
        "num_local_experts": 5, "num_experts_per_tok": 1, "num_hidden_layers": 3,
        "intermediate_size": 32, "router_jitter_noise": 0.1, "output_router_logits": True,
    },
    "silent": {
        "hidden_size": 64, "num_attention_heads": 16, "intermediate_size": 16, **SILENT,
    },
}  # fmt: skip

QWEN2_MOE = {
    "plain": {
        "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 24, "num_key_value_heads": 2,
    },
    "normalised": {
        "num_experts": 4, "num_experts_per_tok": 3, "moe_intermediate_size": 24,
        "shared_expert_intermediate_size": 40, "norm_topk_prob": True, "qkv_bias": False,
        "tie_word_embeddings": True, "num_key_value_heads": 1,
    },
    "some_dense": {
        "num_experts": 5, "num_experts_per_tok": 1, "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16, "num_hidden_layers": 5, "decoder_sparse_step": 2,
        "mlp_only_layers": [3],
    },
    "windows": {
        "num_experts": 7, "num_experts_per_tok": 2, "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16, "num_hidden_layers": 4, "use_sliding_window": True,
        "sliding_window": 7, "max_window_layers": 2,
    },
    "silent": {
        "hidden_size": 64, "num_attention_heads": 16, "moe_intermediate_size": 8,
        "shared_expert_intermediate_size": 16, "num_hidden_layers": 1, **SILENT,
    },
}  # fmt: skip
QWEN3_MOE = {
    "plain": {
        "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 12,
        "num_key_value_heads": 2, "norm_topk_prob": True,
    },
    "some_dense": {
        "num_local_experts": 9, "num_experts_per_tok": 3, "moe_intermediate_size": 8,
        "num_hidden_layers": 3, "mlp_only_layers": [1], "attention_bias": True,
    },
    "windows": {
        "num_experts": 4, "num_experts_per_tok": 1, "moe_intermediate_size": 24,
        "tie_word_embeddings": True, "use_sliding_window": True, "sliding_window": 7,
    },
    "silent": {
        "hidden_size": 64, "num_attention_heads": 16, "moe_intermediate_size": 8,
        "num_hidden_layers": 1, **SILENT,
    },
}  # fmt: skip

#: Family to its cases by name.
FAMILIES: dict[str, dict[str, Case]] = {
    "arcee": cases("arcee", "ArceeForCausalLM", ARCEE),
    "bloom": cases("bloom", "BloomForCausalLM", BLOOM),
    "codegen": cases("codegen", "CodeGenForCausalLM", CODEGEN),
    "cohere": cases("cohere", "CohereForCausalLM", COHERE),
    "cohere2": cases("cohere2", "Cohere2ForCausalLM", COHERE2),
    "ernie4_5": cases("ernie4_5", "Ernie4_5ForCausalLM", ERNIE4_5),
    "exaone4": cases("exaone4", "Exaone4ForCausalLM", EXAONE4),
    "falcon": cases("falcon", "FalconForCausalLM", FALCON),
    "falcon_mamba": cases("falcon_mamba", "FalconMambaForCausalLM", FALCON_MAMBA, {}),
    "gemma": cases("gemma", "GemmaForCausalLM", GEMMA),
    "gemma2": cases("gemma2", "Gemma2ForCausalLM", GEMMA2),
    "gemma3": cases("gemma3", "Gemma3ForConditionalGeneration", GEMMA3, {}),
    "gemma3_text": cases("gemma3_text", "Gemma3ForCausalLM", GEMMA3_TEXT),
    "glm": cases("glm", "GlmForCausalLM", GLM),
    "glm4": cases("glm4", "Glm4ForCausalLM", GLM),
    "gpt2": cases("gpt2", "GPT2LMHeadModel", GPT2),
    "gpt_bigcode": cases("gpt_bigcode", "GPTBigCodeForCausalLM", GPT_BIGCODE),
    "gpt_neo": cases("gpt_neo", "GPTNeoForCausalLM", GPT_NEO),
    "gpt_neox": cases("gpt_neox", "GPTNeoXForCausalLM", GPT_NEOX),
    "gptj": cases("gptj", "GPTJForCausalLM", GPTJ),
    "granite": cases("granite", "GraniteForCausalLM", GRANITE),
    "hunyuan_v1_dense": cases("hunyuan_v1_dense", "HunYuanDenseV1ForCausalLM", HUNYUAN_V1_DENSE),
    "helium": cases("helium", "HeliumForCausalLM", HELIUM),
    "llama": cases("llama", "LlamaForCausalLM", tiny_llama.PARITY_CASES),
    "mamba": cases("mamba", "MambaForCausalLM", MAMBA, {}),
    "mamba2": cases("mamba2", "Mamba2ForCausalLM", MAMBA2, {}),
    "ministral": cases("ministral", "MinistralForCausalLM", MINISTRAL),
    "ministral3": cases("ministral3", "Ministral3ForCausalLM", MINISTRAL3),
    "mistral3": cases("mistral3", "Mistral3ForConditionalGeneration", MISTRAL3, {}),
    "mistral": cases("mistral", "MistralForCausalLM", MISTRAL),
    "mixtral": cases("mixtral", "MixtralForCausalLM", MIXTRAL),
    "mpt": cases("mpt", "MptForCausalLM", MPT),
    "nemotron": cases("nemotron", "NemotronForCausalLM", NEMOTRON),
    "olmo2": cases("olmo2", "Olmo2ForCausalLM", OLMO2),
    "olmo3": cases("olmo3", "Olmo3ForCausalLM", OLMO3),
    "opt": cases("opt", "OPTForCausalLM", OPT),
    "phi": cases("phi", "PhiForCausalLM", PHI),
    "phi3": cases("phi3", "Phi3ForCausalLM", PHI3),
    "qwen2": cases("qwen2", "Qwen2ForCausalLM", QWEN2),
    "qwen2_moe": cases("qwen2_moe", "Qwen2MoeForCausalLM", QWEN2_MOE),
    "qwen3": cases("qwen3", "Qwen3ForCausalLM", QWEN3),
    "qwen3_moe": cases("qwen3_moe", "Qwen3MoeForCausalLM", QWEN3_MOE),
    "seed_oss": cases("seed_oss", "SeedOssForCausalLM", SEED_OSS),
    "smollm3": cases("smollm3", "SmolLM3ForCausalLM", SMOLLM3),
    "stablelm": cases("stablelm", "StableLmForCausalLM", STABLELM),
    "starcoder2": cases("starcoder2", "Starcoder2ForCausalLM", STARCODER2),
}

#: All cases, under names for test ids.
CASES = {f"{family}-{name}": case for family, of in FAMILIES.items() for name, case in of.items()}
