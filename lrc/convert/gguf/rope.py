"""Rotary positions of a GGUF file in the words of Hugging Face."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lrc.convert.gguf.metadata import Metadata, shortest
from lrc.errors import FormatError, UnsupportedModelError

Factors = dict[str, NDArray[np.float32]]

#: GGUF names of tensors that hold divisors of the frequencies.
FACTORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
#: Llama 3.1 and later: (low_freq_factor, high_freq_factor, original context); the factor varies.
_LLAMA3 = (1.0, 4.0, 8192)
_YARN = {"beta_fast": "yarn_beta_fast", "beta_slow": "yarn_beta_slow"}


def rope_scaling(
    meta: Metadata, factors: Factors, theta: float, rotated: int
) -> dict[str, Any] | None:
    """``rope_scaling`` of config.json.

    Parameters
    ----------
    meta
        Settings of the file.
    factors
        (rotated / 2,) divisors by GGUF name, where the file has them.
    theta
        Base of the frequencies.
    rotated
        Features of a head that are rotated.

    Raises
    ------
    UnsupportedModelError
        A kind of scaling that is not known.
    FormatError
        A parameter of it is missing or damaged.
    """
    if "rope_freqs.weight" in factors:
        return _llama3(factors["rope_freqs.weight"], theta, rotated)
    if meta.get("rope.scale_linear") is not None:
        return {"rope_type": "linear", "factor": meta.number("rope.scale_linear")}
    kind = meta.get("rope.scaling.type") or "none"
    if kind == "linear":
        return {"rope_type": "linear", "factor": meta.number("rope.scaling.factor")}
    if kind == "yarn":
        return _yarn(meta)
    if kind != "none":
        raise UnsupportedModelError(f"rope scaling {kind!r} of the GGUF file is not supported")
    return None


def longrope(meta: Metadata, factors: Factors, rotated: int) -> dict[str, Any] | None:
    """``rope_scaling`` with divisors for short and for long texts (Ding et al., 2024).

    ``rope.scaling.attn_factor`` has to be what follows from the lengths, which is what
    transformers takes.

    Raises
    ------
    UnsupportedModelError
        The factor differs.
    FormatError
        A tensor is missing or has another length.
    """
    meta.get("rope.scaling.type")
    names = {"long_factor": FACTORS[1], "short_factor": FACTORS[2]}
    given = {key: factors[name] for key, name in names.items() if name in factors}
    original = meta.count("rope.scaling.original_context_length", meta.count("context_length"))
    ratio = meta.count("context_length") / original
    expected = math.sqrt(1 + math.log(ratio) / math.log(original)) if ratio > 1 else 1.0
    if not given:
        return None
    if len(given) < 2 or any(value.shape != (rotated // 2,) for value in given.values()):
        raise FormatError(
            f"the GGUF file needs {names['long_factor']} and {names['short_factor']}, each of "
            f"{rotated // 2} numbers"
        )
    if not math.isclose(meta.number("rope.scaling.attn_factor", expected), expected, rel_tol=1e-4):
        raise UnsupportedModelError(
            f"{meta.architecture}.rope.scaling.attn_factor of the GGUF file does not follow from "
            "its context lengths"
        )
    lists = {key: [shortest(float(v)) for v in value] for key, value in given.items()}
    return {"rope_type": "longrope", **lists}


def _yarn(meta: Metadata) -> dict[str, Any]:
    """Peng et al., 2023."""
    scaling: dict[str, Any] = {
        "rope_type": "yarn",
        "factor": meta.number("rope.scaling.factor"),
        "original_max_position_embeddings": meta.count("rope.scaling.original_context_length"),
    }
    for name, key in _YARN.items():
        if meta.get(f"rope.scaling.{key}") is not None:
            scaling[name] = meta.number(f"rope.scaling.{key}")
    if meta.get("rope.scaling.yarn_attn_factor") is not None:
        scaling["attention_factor"] = meta.number("rope.scaling.yarn_attn_factor")
    return scaling


def _llama3(factors: NDArray[np.float32], theta: float, rotated: int) -> dict[str, Any]:
    """Parameters of the Llama 3 rule whose divisors are ``factors``.

    The file holds divisors, not parameters: the largest is the factor, the others follow from
    the parameters that all Llama 3 models share. Refused when they do not.
    """
    low, high, context = _LLAMA3
    factor = float(factors.max())
    wavelength = 2 * math.pi * theta ** (np.arange(0, rotated, 2) / rotated)
    smooth = np.clip((context / wavelength - low) / (high - low), 0, 1)
    rule = 1 / ((1 - smooth) / factor + smooth)
    if factors.shape != rule.shape or not np.allclose(factors, rule, rtol=1e-4, atol=0):
        raise UnsupportedModelError("rope_freqs of the GGUF file do not follow the Llama 3 rule")
    return {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": context,
    }
