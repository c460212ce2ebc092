"""Model families, one file each, found by ``model_type``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrc.errors import UnsupportedModelError
from lrc.models.arcee import ARCEE
from lrc.models.base import Family, Model
from lrc.models.bloom import BLOOM
from lrc.models.codegen import CODEGEN
from lrc.models.cohere import COHERE
from lrc.models.cohere2 import COHERE2
from lrc.models.config_reader import short
from lrc.models.ernie4_5 import ERNIE4_5
from lrc.models.exaone4 import EXAONE4
from lrc.models.falcon import FALCON
from lrc.models.falcon_mamba import FALCON_MAMBA
from lrc.models.gemma import GEMMA
from lrc.models.gemma2 import GEMMA2
from lrc.models.gemma3 import GEMMA3
from lrc.models.gemma3_text import GEMMA3_TEXT
from lrc.models.glm import GLM
from lrc.models.glm4 import GLM4
from lrc.models.gpt2 import GPT2
from lrc.models.gpt_bigcode import GPT_BIGCODE
from lrc.models.gpt_neo import GPT_NEO
from lrc.models.gpt_neox import GPT_NEOX
from lrc.models.gptj import GPTJ
from lrc.models.granite import GRANITE
from lrc.models.helium import HELIUM
from lrc.models.hunyuan_v1_dense import HUNYUAN_V1_DENSE
from lrc.models.llama import LLAMA
from lrc.models.mamba import MAMBA
from lrc.models.mamba2 import MAMBA2
from lrc.models.ministral import MINISTRAL
from lrc.models.ministral3 import MINISTRAL3
from lrc.models.mistral import MISTRAL
from lrc.models.mistral3 import MISTRAL3
from lrc.models.mixtral import MIXTRAL
from lrc.models.mpt import MPT
from lrc.models.nemotron import NEMOTRON
from lrc.models.olmo2 import OLMO2
from lrc.models.olmo3 import OLMO3
from lrc.models.opt import OPT
from lrc.models.phi import PHI
from lrc.models.phi3 import PHI3
from lrc.models.qwen2 import QWEN2
from lrc.models.qwen2_moe import QWEN2_MOE
from lrc.models.qwen3 import QWEN3
from lrc.models.qwen3_moe import QWEN3_MOE
from lrc.models.seed_oss import SEED_OSS
from lrc.models.smollm3 import SMOLLM3
from lrc.models.source import WeightSource
from lrc.models.stablelm import STABLELM
from lrc.models.starcoder2 import STARCODER2
from lrc.models.tensors import Tensors
from lrc.models.whisper import WHISPER

#: Family by the ``model_type`` of its files.
MODELS: dict[str, Family] = {
    "arcee": ARCEE,
    "bloom": BLOOM,
    "codegen": CODEGEN,
    "cohere": COHERE,
    "cohere2": COHERE2,
    "ernie4_5": ERNIE4_5,
    "exaone4": EXAONE4,
    "falcon": FALCON,
    "falcon_mamba": FALCON_MAMBA,
    "gemma": GEMMA,
    "gemma2": GEMMA2,
    "gemma3": GEMMA3,
    "gemma3_text": GEMMA3_TEXT,
    "glm": GLM,
    "glm4": GLM4,
    "gpt2": GPT2,
    "gpt_bigcode": GPT_BIGCODE,
    "gpt_neo": GPT_NEO,
    "gpt_neox": GPT_NEOX,
    "gptj": GPTJ,
    "granite": GRANITE,
    "helium": HELIUM,
    "hunyuan_v1_dense": HUNYUAN_V1_DENSE,
    "llama": LLAMA,
    "mamba": MAMBA,
    "mamba2": MAMBA2,
    "ministral": MINISTRAL,
    "ministral3": MINISTRAL3,
    "mistral": MISTRAL,
    "mistral3": MISTRAL3,
    "mixtral": MIXTRAL,
    "mpt": MPT,
    "nemotron": NEMOTRON,
    "olmo2": OLMO2,
    "olmo3": OLMO3,
    "opt": OPT,
    "phi": PHI,
    "phi3": PHI3,
    "qwen2": QWEN2,
    "qwen2_moe": QWEN2_MOE,
    "qwen3": QWEN3,
    "qwen3_moe": QWEN3_MOE,
    "seed_oss": SEED_OSS,
    "smollm3": SMOLLM3,
    "stablelm": STABLELM,
    "starcoder2": STARCODER2,
    "whisper": WHISPER,
}


def load_model(source: WeightSource) -> Model:
    """Make the model that ``source``'s configuration describes; weights are read when needed.

    Raises
    ------
    UnsupportedModelError
        When the ``model_type`` or another value of the configuration is not supported.
    FormatError
        When the configuration is incomplete.
    """
    return _family(source.config).open(source)


def declared(config: Mapping[str, Any]) -> Tensors:
    """Every tensor of a checkpoint with this ``config.json``, and what it is.

    Raises
    ------
    UnsupportedModelError, FormatError
        As :func:`load_model`.
    """
    return _family(config).declared(config)


def _family(config: Mapping[str, Any]) -> Family:
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in MODELS:
        raise UnsupportedModelError(
            f"config.json: model_type={short(kind)} is not supported; known are {', '.join(MODELS)}"
        )
    return MODELS[kind]
