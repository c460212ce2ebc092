"""Activations of feed-forward parts, by the names that ``config.json`` has for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrc.errors import UnsupportedModelError
from lrc.models.config_reader import short

#: Names of transformers to those of `lrc.nn.layers.ACTIVATIONS`.
KINDS: dict[str, str] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu2",
}


def activation(config: Mapping[str, Any], key: str, default: str) -> str:
    """Take the kind that ``key`` names, or that which ``default`` names where it is absent.

    Raises
    ------
    UnsupportedModelError
        When it is not known.
    """
    name = config.get(key, default)
    if not isinstance(name, str) or name not in KINDS:
        raise UnsupportedModelError(
            f"config.json: {key}={short(name)} is not supported; known are {', '.join(KINDS)}"
        )
    return KINDS[name]
