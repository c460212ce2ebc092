"""Model families, one file each, found by ``model_type``."""

from __future__ import annotations

from lrc.errors import UnsupportedModelError
from lrc.models.base import WeightSource
from lrc.models.llama import LlamaModel

MODELS = {"llama": LlamaModel}


def load_model(source: WeightSource) -> LlamaModel:
    """Make the model that ``source``'s configuration describes; weights are read when needed.

    Raises
    ------
    UnsupportedModelError
        When the ``model_type`` or another value of the configuration is not supported.
    FormatError
        When the configuration is incomplete.
    """
    kind = source.config.get("model_type")
    if kind not in MODELS:
        raise UnsupportedModelError(
            f"config.json: model_type={kind!r} is not supported; known are {', '.join(MODELS)}"
        )
    return MODELS[kind](source)
