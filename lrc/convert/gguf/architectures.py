"""Architectures of llama.cpp, one row each: configuration, weights, and the model type they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from lrc.convert.gguf import gemmas, layer_norm_decoders, mambas, rms_decoders
from lrc.convert.gguf.metadata import Metadata
from lrc.convert.gguf.restore import (
    GPT2_TRANSPOSED,
    Values,
    as_stored,
    decay,
    heads_apart,
    norms_around_zero,
    rotary_rows,
    transposed,
)
from lrc.convert.gguf.rope import Factors
from lrc.errors import UnsupportedModelError

#: Model type to the class of transformers, which other programs ask for.
CLASSES = {
    "cohere": "CohereForCausalLM",
    "cohere2": "Cohere2ForCausalLM",
    "falcon": "FalconForCausalLM",
    "falcon_mamba": "FalconMambaForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3_text": "Gemma3ForCausalLM",
    "gpt2": "GPT2LMHeadModel",
    "gpt_bigcode": "GPTBigCodeForCausalLM",
    "gpt_neox": "GPTNeoXForCausalLM",
    "granite": "GraniteForCausalLM",
    "llama": "LlamaForCausalLM",
    "mamba": "MambaForCausalLM",
    "mamba2": "Mamba2ForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "nemotron": "NemotronForCausalLM",
    "olmo2": "Olmo2ForCausalLM",
    "phi": "PhiForCausalLM",
    "phi3": "Phi3ForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen2_moe": "Qwen2MoeForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
    "smollm3": "SmolLM3ForCausalLM",
    "stablelm": "StableLmForCausalLM",
    "starcoder2": "Starcoder2ForCausalLM",
}


@dataclass(frozen=True)
class Architecture:
    """How a model of an architecture becomes a Hugging Face checkpoint.

    Attributes
    ----------
    config
        ``config.json`` from the settings of the file and its divisors of rotary frequencies,
        without token ids and dtype.
    restore
        A function of `lrc.convert.gguf.restore`.
    transposed
        Ends of the names of tensors that ``restore`` transposes.
    zeros
        Ends of the names of tensors that are zero where the file has none of them.
    renamed
        Parts of Hugging Face names that the package ``gguf`` knows under others.
    """

    config: Callable[[Metadata, Factors], dict[str, Any]]
    restore: Callable[[str, Values, Mapping[str, Any]], Values] = as_stored
    transposed: tuple[str, ...] = ()
    zeros: tuple[str, ...] = ()
    renamed: Mapping[str, str] = field(default_factory=dict)


#: Models that were trained with biases on q, k and v alone are the same with zeros on o, which
#: Hugging Face asks for beside them.
_NO_OUTPUT_BIAS = (".o_proj.bias",)

#: Name in ``general.architecture`` to what it is.
ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture(rms_decoders.llama, rotary_rows, zeros=_NO_OUTPUT_BIAS),
    "qwen2": Architecture(rms_decoders.qwen2),
    "qwen3": Architecture(rms_decoders.qwen3),
    "qwen2moe": Architecture(rms_decoders.qwen2_moe),
    "qwen3moe": Architecture(rms_decoders.qwen3_moe),
    "smollm3": Architecture(rms_decoders.smollm3, rotary_rows, zeros=_NO_OUTPUT_BIAS),
    "granite": Architecture(rms_decoders.granite, rotary_rows, zeros=_NO_OUTPUT_BIAS),
    "olmo2": Architecture(rms_decoders.olmo2),
    "phi2": Architecture(layer_norm_decoders.phi2),
    "phi3": Architecture(rms_decoders.phi3),
    "starcoder2": Architecture(layer_norm_decoders.starcoder2),
    "stablelm": Architecture(layer_norm_decoders.stablelm),
    "command-r": Architecture(layer_norm_decoders.cohere),
    "cohere2": Architecture(layer_norm_decoders.cohere2),
    "falcon": Architecture(layer_norm_decoders.falcon, heads_apart),
    "nemotron": Architecture(layer_norm_decoders.nemotron, norms_around_zero),
    "starcoder": Architecture(layer_norm_decoders.gpt_bigcode),
    "gptneox": Architecture(layer_norm_decoders.gpt_neox, heads_apart),
    "gpt2": Architecture(layer_norm_decoders.gpt2, transposed, GPT2_TRANSPOSED),
    "gemma": Architecture(gemmas.gemma, norms_around_zero),
    "gemma2": Architecture(gemmas.gemma2, norms_around_zero),
    "gemma3": Architecture(gemmas.gemma3, norms_around_zero),
    "mamba": Architecture(mambas.mamba, decay),
    "mamba2": Architecture(mambas.mamba2, decay, renamed={".dt_bias": ".dt_proj.bias"}),
}


def hf_config(row: Architecture, meta: Metadata, factors: Factors) -> dict[str, Any]:
    """``config.json`` of a model, without token ids and dtype.

    Raises
    ------
    UnsupportedModelError
        A setting is not known.
    FormatError
        A setting is missing or damaged.
    """
    config = row.config(meta, factors)
    meta.refuse_unread()
    return {"architectures": [CLASSES[config["model_type"]]], **config}


def architecture(name: object) -> Architecture:
    """The row of an architecture.

    Raises
    ------
    UnsupportedModelError
        There is none.
    """
    if name not in ARCHITECTURES:
        raise UnsupportedModelError(
            f"GGUF architecture {name!r} is not supported; known are {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[str(name)]
